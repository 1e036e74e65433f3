//! Which system calls no program in a sandbox may make.

use super::sys::Instruction;

// Instructions of the classic packet filter (linux/bpf_common.h) and verdicts (linux/seccomp.h).
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
const KILL_PROCESS: u32 = 0x8000_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

// Places in `struct seccomp_data`; the low half of an argument comes first on both architectures.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

#[cfg(target_arch = "x86_64")]
const THIS_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const THIS_ARCHITECTURE: u32 = 0xc000_00b7;

/// What concerns the whole machine, leads out of the namespaces, or gives an attacker more of the kernel than a package needs.
const FORBIDDEN: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const FORBIDDEN_HERE: &[i64] = &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_HERE: &[i64] = &[];

/// What waits for a disk. It succeeds without doing anything: what a sandbox holds is gone in a moment or taken into the store,
/// and a script's `sync` would wait for all that the rest of the machine has written.
const WAITING: &[i64] =
    &[libc::SYS_fdatasync, libc::SYS_fsync, libc::SYS_msync, libc::SYS_sync, libc::SYS_sync_file_range, libc::SYS_syncfs];

/// Every `CLONE_NEW…` flag that `clone` knows.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Socket families that stay inside the sandbox's own namespaces: local, IPv4, IPv6, netlink. Others (vsock) reach the host.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];

const fn instruction(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, jt: if_true, jf: if_false, k: operand }
}

const fn verdict(verdict: u32) -> Instruction {
    instruction(RETURN, verdict, 0, 0)
}

const fn errno(errno: i32) -> Instruction {
    verdict(ERRNO | errno.cast_unsigned())
}

fn number(call: i64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// Begins a filter: another architecture's calls end the process, x32 numbers do not exist.
fn prologue() -> Vec<Instruction> {
    vec![
        instruction(LOAD, ARCHITECTURE, 0, 0),
        instruction(JUMP_EQUAL, THIS_ARCHITECTURE, 1, 0),
        verdict(KILL_PROCESS),
        instruction(LOAD, NUMBER, 0, 0),
        instruction(JUMP_GREATER_EQUAL, 0x4000_0000, 0, 1),
        errno(libc::ENOSYS),
    ]
}

/// Returns the filter for everything that runs in a sandbox. What is forbidden fails with EPERM.
pub fn forbid() -> Vec<Instruction> {
    let mut filter = prologue();
    for &call in FORBIDDEN.iter().chain(FORBIDDEN_HERE) {
        filter.extend([instruction(JUMP_EQUAL, number(call), 0, 1), errno(libc::EPERM)]);
    }
    for &call in WAITING {
        filter.extend([instruction(JUMP_EQUAL, number(call), 0, 1), errno(0)]);
    }
    // Its flags are in memory, where a filter cannot look: the C library then takes `clone`.
    filter.extend([instruction(JUMP_EQUAL, number(libc::SYS_clone3), 0, 1), errno(libc::ENOSYS)]);
    filter.extend([
        instruction(JUMP_EQUAL, number(libc::SYS_clone), 0, 4),
        instruction(LOAD, argument(0), 0, 0),
        instruction(JUMP_SET, NEW_NAMESPACES, 0, 1),
        errno(libc::EPERM),
        verdict(ALLOW),
    ]);
    filter.extend([instruction(JUMP_EQUAL, number(libc::SYS_socket), 0, 6), instruction(LOAD, argument(0), 0, 0)]);
    for (family, jump) in FAMILIES.into_iter().zip([4, 3, 2, 1]) {
        filter.push(instruction(JUMP_EQUAL, family, jump, 0));
    }
    filter.extend([errno(libc::EAFNOSUPPORT), verdict(ALLOW)]);
    filter
}

/// Calls that are answered where one id is mapped: about owners and identities, and those that make something.
const ASKED: &[i64] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getuid,
    libc::SYS_mkdirat,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
    libc::SYS_symlinkat,
];

/// The same by their old names, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const ASKED_HERE: &[i64] = &[libc::SYS_chown, libc::SYS_creat, libc::SYS_lchown, libc::SYS_mkdir, libc::SYS_symlink];
#[cfg(not(target_arch = "x86_64"))]
const ASKED_HERE: &[i64] = &[];

/// Calls that open a file, with the argument that holds their flags: asked about only when they may make it.
#[cfg(target_arch = "x86_64")]
const OPENING: &[(i64, u32)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPENING: &[(i64, u32)] = &[(libc::SYS_openat, 2)];

/// Returns the filter that asks process 1.
pub fn ask() -> Vec<Instruction> {
    let mut filter = prologue();
    for &(call, flags) in OPENING {
        filter.extend([
            instruction(JUMP_EQUAL, number(call), 0, 4),
            instruction(LOAD, argument(flags), 0, 0),
            instruction(JUMP_SET, libc::O_CREAT.cast_unsigned(), 0, 1),
            verdict(NOTIFY),
            verdict(ALLOW),
        ]);
    }
    for &call in ASKED.iter().chain(ASKED_HERE) {
        filter.extend([instruction(JUMP_EQUAL, number(call), 0, 1), verdict(NOTIFY)]);
    }
    filter.push(verdict(ALLOW));
    filter
}
