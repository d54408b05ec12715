//! Baseline *floor*: the least that a wrapper can do for a Run, without the C library: one socket pair, one
//! handshake, one request, one reply, one execve. It checks nothing and is no wrapper to be used.
#![no_std]
#![no_main]
#![allow(dead_code)]

include!("start.rs");

const SOCKET: &[u8] = b"CODEX_ESCALATE_SOCKET=";
const DROPPED: [&[u8]; 3] = [SOCKET, b"EXEC_WRAPPER=", b"BASH_EXEC_WRAPPER="];
const AF_UNIX: usize = 1;
const SOCK_STREAM_CLOEXEC: usize = 1 | 0o2_000_000;
const BUFFER: usize = 16 << 20;

fn run(start: Start) -> usize {
    let Some(escalation) = entries(start.environment).find_map(|entry| number_of(entry.strip_prefix(SOCKET)?)) else {
        return 126;
    };
    let mut pair = [0_i32; 2];
    // SAFETY: each call gets memory of ours of the size that it reads or writes.
    unsafe {
        system_call(number::SOCKETPAIR, [AF_UNIX, SOCK_STREAM_CLOEXEC, 0, pair.as_mut_ptr() as usize, 0, 0]);
        handshake(escalation, pair[1]);
        system_call(number::CLOSE, [pair[1] as usize, 0, 0, 0, 0, 0]);
        // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        let memory = system_call(number::MMAP, [0, BUFFER, 3, 0x4022, usize::MAX, 0]);
        let mut writer = Writer { bytes: core::slice::from_raw_parts_mut(memory as *mut u8, BUFFER), length: 4 };
        let file = text(*start.arguments.add(1));
        request(&mut writer, file, start);
        writer.send(pair[0]);
        let mut reply = [0_u8; 256];
        let mut length = 0;
        while length < 4 || length < 4 + u32::from_le_bytes([reply[0], reply[1], reply[2], reply[3]]) as usize {
            let rest = &mut reply[length..];
            let read = system_call(number::READ, [pair[0] as usize, rest.as_mut_ptr() as usize, rest.len(), 0, 0, 0]);
            if read <= 0 {
                return 126;
            }
            length += read as usize;
        }
        if &reply[4..length] != br#"{"action":"Run"}"# {
            return 1;
        }
        let arguments = start.arguments.add(2);
        system_call(number::EXECVE, [file.as_ptr() as usize, arguments as usize, start.environment as usize, 0, 0, 0]);
    }
    126
}

fn request(writer: &mut Writer, file: &[u8], start: Start) {
    writer.plain(br#"{"file":"#);
    writer.string(file);
    writer.plain(br#","argv":["#);
    for (index, argument) in entries(start.arguments).skip(2).enumerate() {
        writer.plain(if index == 0 { b"" } else { b"," });
        writer.string(argument);
    }
    writer.plain(br#"],"workdir":"#);
    let mut directory = [0_u8; 4096];
    // SAFETY: getcwd writes at most as many bytes as it is told, a NUL at the end included.
    let length =
        unsafe { system_call(number::GETCWD, [directory.as_mut_ptr() as usize, directory.len(), 0, 0, 0, 0]) };
    writer.string(&directory[..(length as usize).saturating_sub(1)]);
    writer.plain(br#","env":{"#);
    let mut first = true;
    for entry in entries(start.environment) {
        if DROPPED.iter().any(|name| entry.starts_with(name)) {
            continue;
        }
        let Some(equals) = entry.iter().position(|byte| *byte == b'=') else { continue };
        writer.plain(if first { b"" } else { b"," });
        first = false;
        writer.string(&entry[..equals]);
        writer.plain(b":");
        writer.string(&entry[equals + 1..]);
    }
    writer.plain(b"}}");
}

struct Writer {
    bytes: &'static mut [u8],
    length: usize,
}

impl Writer {
    fn plain(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn string(&mut self, bytes: &[u8]) {
        self.plain(b"\"");
        for byte in bytes {
            match byte {
                b'"' | b'\\' => self.plain(&[b'\\', *byte]),
                0..0x20 => {
                    let digits = b"0123456789abcdef";
                    self.plain(&[b'\\', b'u', b'0', b'0', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
                }
                byte => {
                    self.bytes[self.length] = *byte;
                    self.length += 1;
                }
            }
        }
        self.plain(b"\"");
    }

    fn send(&mut self, socket: i32) {
        self.bytes[..4].copy_from_slice(&(self.length as u32 - 4).to_le_bytes());
        let mut rest = &self.bytes[..self.length];
        while !rest.is_empty() {
            // SAFETY: write reads `rest`.
            let sent =
                unsafe { system_call(number::WRITE, [socket as usize, rest.as_ptr() as usize, rest.len(), 0, 0, 0]) };
            if sent <= 0 {
                exit(126);
            }
            rest = &rest[sent as usize..];
        }
    }
}

/// One byte and one descriptor.
fn handshake(escalation: usize, descriptor: i32) {
    #[repr(C)]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        descriptor: i32,
        padding: i32,
    }
    let byte = 0_u8;
    let part = [&raw const byte as usize, 1];
    // SOL_SOCKET, SCM_RIGHTS
    let control = Control { length: 20, level: 1, kind: 1, descriptor, padding: 0 };
    // name, its length, parts, how many, control, its length, flags
    let message = [0, 0, part.as_ptr() as usize, 1, &raw const control as usize, size_of::<Control>(), 0];
    // SAFETY: sendmsg reads `message` and what it points to; all of it lives until the call returns.
    unsafe { system_call(number::SENDMSG, [escalation, message.as_ptr() as usize, 0, 0, 0, 0]) };
}

/// The strings of a null-terminated vector.
fn entries(vector: *const *const u8) -> impl Iterator<Item = &'static [u8]> {
    // SAFETY: the vectors of the initial stack end with a null and live as long as the process.
    (0..).map(move |index| unsafe { *vector.add(index) }).take_while(|entry| !entry.is_null()).map(|entry| unsafe { text(entry) })
}

/// The bytes of a C string, its NUL not included.
///
/// # Safety
/// `string` must point to a C string that is never freed.
unsafe fn text(string: *const u8) -> &'static [u8] {
    // SAFETY: the caller's.
    unsafe { core::ffi::CStr::from_ptr(string.cast()).to_bytes() }
}

fn number_of(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0_usize, |number, digit| Some(number * 10 + usize::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?)))
}
