//! Baseline *two-exec*: a static program without the C library that only executes its argument.
#![no_std]
#![no_main]
#![allow(dead_code)]

include!("start.rs");

fn run(start: Start) -> usize {
    // SAFETY: argv has argc entries and a null; execve reads FILE, argv from its third entry on, and the environment.
    unsafe {
        let file = *start.arguments.add(1);
        let arguments = start.arguments.add(2);
        system_call(number::EXECVE, [file as usize, arguments as usize, start.environment as usize, 0, 0, 0]);
    }
    126
}
