//! What a terminal's program has written, and how it ended.

/// What came since the last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// Standard output and standard error, in the order in which they were written.
    pub bytes: Vec<u8>,
    /// How many of `bytes` come before what was left out; all of them if nothing was.
    pub head: usize,
    /// How many bytes were left out behind the first [`head`](Self::head) of `bytes`, because more than
    /// [`Config::output_limit`](super::Config::output_limit) had not been read. They are lost. Each gap is told once, with the
    /// first byte behind it.
    pub left_out: u64,
    /// How the program has ended, once all that it wrote before has been read. What it left running may still write.
    pub end: Option<End>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this status, 0 to 255.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}
