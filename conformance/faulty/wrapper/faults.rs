//! Which faults are switched on: one, or several variants with `+` between them.

/// The switched-on fault, none for a right wrapper.
pub struct Faults {
    name: String,
}

impl Faults {
    /// From `argv[0]`: what stands behind `--` in the file name.
    pub fn from_name(argv0: &[u8]) -> Faults {
        let path = String::from_utf8_lossy(argv0);
        let file_name = path.rsplit('/').next().unwrap_or_default();
        Faults {
            name: file_name.split_once("--").map_or("", |(_, name)| name).to_owned(),
        }
    }

    /// Its name, empty for none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this fault is switched on.
    pub fn has(&self, name: &str) -> bool {
        self.name.split('+').any(|switched_on| switched_on == name)
    }
}
