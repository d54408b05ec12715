//! Decides how the wrapper starts: without the C library where that is possible and wanted, otherwise through it.
//!
//! Without the C library there is nothing that could unwind, so that start needs `panic = "abort"`. A build script isn't
//! told the profile's panic strategy, only its name, by the folder that it may write to: hence a profile of that name,
//! `cargo build --profile wrapper -p execve-wrapper`. `start/freestanding.rs` checks the strategy itself.

use std::path::Path;

const PROFILE: &str = "wrapper";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/start/layout.ld");
    println!("cargo::rustc-check-cfg=cfg(freestanding)");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let supported = variable("CARGO_CFG_TARGET_OS") == "linux"
        && ["x86_64", "aarch64"].contains(&variable("CARGO_CFG_TARGET_ARCH").as_str())
        && variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64";
    let wants_libc = std::env::var_os("CARGO_FEATURE_LIBC").is_some();
    // .../PROFILE/build/PACKAGE-HASH/out
    let out_dir = variable("OUT_DIR");
    let profile = Path::new(&out_dir).ancestors().nth(3).and_then(Path::file_name);
    if !supported || wants_libc || profile != Some(PROFILE.as_ref()) {
        return;
    }
    println!("cargo::rustc-cfg=freestanding");
    let layout = format!("-Wl,-T,{}/src/start/layout.ld", variable("CARGO_MANIFEST_DIR"));
    for argument in [
        // Our own start, no library, no loader, and an address that needs no relocation.
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        &layout,
    ] {
        println!("cargo::rustc-link-arg-bin=execve-wrapper={argument}");
    }
}
