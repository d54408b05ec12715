//! What a filter does with a system call by its number alone, found in a few steps.
//!
//! When a filter is put on, the kernel runs it for each of its calls, to know those that are always allowed. A list of all
//! refused calls, looked through from its beginning to its end each time, is most of what a sandbox takes to start.

use libc::{BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use seccompiler::sock_filter;

/// Where `struct seccomp_data` has these.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Most calls that are compared one after the other.
const LEAF: usize = 6;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It fails with this errno.
    Fails(i32),
    /// Its arguments decide: what follows this program sees to it.
    Examined,
}

/// The beginning of a filter for `architecture`: gives a verdict on these calls and allows all others. What is examined, and
/// calls of other architectures, go on behind its end. `calls` is sorted by number and has each number once.
pub(super) fn by_number(architecture: u32, calls: &[(u32, Verdict)]) -> Vec<sock_filter> {
    let tree = tree(calls);
    let mut program = vec![
        load(ARCHITECTURE),
        jump(BPF_JEQ, architecture, 1, 0),
        // Past the number and the tree.
        go(tree.len() + 1),
        load(NUMBER),
    ];
    let length = program.len() + tree.len();
    for (position, step) in (program.len()..).zip(tree) {
        program.push(match step {
            Step::Do(instruction) => instruction,
            Step::Examine => go(length - position - 1),
        });
    }
    program
}

/// An instruction, or a jump to the end, whose place isn't known yet.
enum Step {
    Do(sock_filter),
    Examine,
}

fn tree(calls: &[(u32, Verdict)]) -> Vec<Step> {
    if calls.len() <= LEAF {
        return leaf(calls);
    }
    let (low, high) = calls.split_at(calls.len() / 2);
    let (highest_low, _) = low[low.len() - 1];
    let (low, high) = (tree(low), tree(high));
    let mut steps = Vec::with_capacity(2 + low.len() + high.len());
    steps.push(Step::Do(jump(BPF_JGT, highest_low, 0, 1)));
    steps.push(Step::Do(go(low.len())));
    steps.extend(low);
    steps.extend(high);
    steps
}

fn leaf(calls: &[(u32, Verdict)]) -> Vec<Step> {
    let mut steps = Vec::with_capacity(2 * calls.len() + 1);
    for (number, verdict) in calls {
        steps.push(Step::Do(jump(BPF_JEQ, *number, 0, 1)));
        steps.push(match verdict {
            Verdict::Fails(errno) => Step::Do(end(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())),
            Verdict::Examined => Step::Examine,
        });
    }
    steps.push(Step::Do(end(libc::SECCOMP_RET_ALLOW)));
    steps
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn jump(comparison: u32, value: u32, if_so: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, value, if_so, otherwise)
}

/// Skips so many instructions.
fn go(instructions: usize) -> sock_filter {
    let distance = u32::try_from(instructions).expect("a filter has at most 4,096 instructions");
    instruction(BPF_JMP | BPF_JA, distance, 0, 0)
}

fn end(action: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, action, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    let code = u16::try_from(code).expect("the codes of classic BPF have 16 bits");
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a filter says about a call: what the kernel would make of the program.
    pub(in super::super) fn verdict(
        program: &[sock_filter],
        architecture: u32,
        number: u32,
        arguments: [u64; 6],
    ) -> u32 {
        let data = |offset: u32| {
            let argument = |offset: u32| arguments[(offset as usize - 16) / 8];
            match offset {
                NUMBER => number,
                ARCHITECTURE => architecture,
                _ if offset.is_multiple_of(8) => argument(offset) as u32,
                _ => (argument(offset - 4) >> 32) as u32,
            }
        };
        let (mut next, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[next].clone();
            next += 1;
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => accumulator = data(k),
                code if code == BPF_JMP | BPF_JA => next += k as usize,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => next += branch(accumulator == k),
                code if code == BPF_JMP | BPF_JGT | BPF_K => next += branch(accumulator > k),
                code if code == BPF_JMP | libc::BPF_JGE | BPF_K => next += branch(accumulator >= k),
                code if code == libc::BPF_ALU | libc::BPF_AND | BPF_K => accumulator &= k,
                code if code == BPF_RET | BPF_K => return k,
                code => panic!("an instruction of code {code:#x}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn each_call_gets_its_verdict_and_no_other_does(
            calls in proptest::collection::btree_map(0_u32..500, proptest::option::of(1_i32..4096), 0..120)
        ) {
            const HERE: u32 = 7;
            const BEHIND: u32 = 0x1234;
            let listed: Vec<(u32, Verdict)> = calls
                .iter()
                .map(|(number, errno)| (*number, errno.map_or(Verdict::Examined, Verdict::Fails)))
                .collect();
            let mut program = by_number(HERE, &listed);
            program.push(end(BEHIND));
            for number in (0..510).chain([u32::MAX]) {
                let expected = match calls.get(&number) {
                    None => libc::SECCOMP_RET_ALLOW,
                    Some(None) => BEHIND,
                    Some(Some(errno)) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
                };
                proptest::prop_assert_eq!(verdict(&program, HERE, number, [0; 6]), expected);
                proptest::prop_assert_eq!(verdict(&program, HERE + 1, number, [0; 6]), BEHIND);
            }
        }
    }
}
