//! The barriers around the compile worker, raised before it reads the first byte of an upload.
//!
//! The limits in `worker` bound the resources that it uses. The barriers bound what it can reach:
//! no file, no socket, no other process, no program, even if an attacker's code took over the
//! compiler or a guest's start-up function. A kernel that lacks one of the barriers still raises
//! the others, and the report says which of them stand.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    process::Command,
    thread,
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use serde::{Deserialize, Serialize};

/// The newest version of Landlock whose rights are taken away. Older kernels know fewer rights.
const LANDLOCK: ABI = ABI::V6;

/// The system calls that the worker needs after its start, to compile and to run a start-up
/// function: memory, threads, time, and its standard streams.
const NEEDED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // Answered by `no_clone3` first.
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The barriers that this kernel has raised around the compile worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// It cannot gain rights that the gateway does not have.
    pub no_new_privs: bool,
    /// It can make only a few system calls.
    pub seccomp: bool,
    /// It can open neither files nor connections.
    pub landlock: bool,
    /// Forbidden actions that succeeded when it tried them. Empty unless the sandbox is broken.
    pub reached: Vec<String>,
}

impl Sandbox {
    /// Whether every barrier stands, and held when it was tried.
    pub fn is_complete(&self) -> bool {
        self.reached.is_empty() && self.barriers().iter().all(|(_, stands)| *stands)
    }

    /// The name of each barrier, and whether it stands.
    pub fn barriers(&self) -> [(&'static str, bool); 3] {
        [
            ("no_new_privs", self.no_new_privs),
            ("seccomp", self.seccomp),
            ("landlock", self.landlock),
        ]
    }
}

/// Raises every barrier that the kernel has. They hold for this thread and for those that it
/// starts, so it must be the only thread of the process.
pub(crate) fn raise() -> Sandbox {
    close_inherited_descriptors();
    let restricted = restrict_files().unwrap_or(RulesetStatus::NotEnforced);
    let landlock =
        restricted != RulesetStatus::NotEnforced && File::open("/proc/self/exe").is_err();
    let seccomp = filter_calls().is_ok();
    // Both of the others need it, and set it first.
    let no_new_privs = seccomp || restricted != RulesetStatus::NotEnforced;
    Sandbox { no_new_privs, seccomp, landlock, reached: Vec::new() }
}

/// Closes all descriptors but the three standard streams. One that leaked from the program that
/// started the gateway would bypass every other barrier.
fn close_inherited_descriptors() {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> =
        open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The list contains the descriptor through which it was read, which is closed by now.
    let is_open = |fd: &RawFd| fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok();
    for fd in open.into_iter().filter(|fd| *fd > 2).filter(is_open) {
        #[expect(
            unsafe_code,
            reason = "the only way to close a descriptor that this program has not opened"
        )]
        // SAFETY: the worker has one thread and has opened nothing yet, so no value owns this
        // descriptor.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// Takes away every right that Landlock knows.
fn restrict_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    Ok(ruleset.restrict_self()?.ruleset)
}

fn filter_calls() -> Result<(), seccompiler::Error> {
    // Of two filters the kernel obeys the stricter one.
    apply_filter(&no_clone3()?)?;
    apply_filter(&only_needed()?)
}

/// A filter cannot read the arguments of `clone3`. If that call does not exist, the C library makes
/// its threads with `clone`.
fn no_clone3() -> Result<BpfProgram, seccompiler::Error> {
    let calls = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    program(calls, SeccompAction::Allow, absent)
}

fn only_needed() -> Result<BpfProgram, seccompiler::Error> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        NEEDED.iter().map(|call| (*call, Vec::new())).collect();
    // Not every architecture has `poll`; where it is missing, the C library uses `ppoll`.
    #[cfg(target_arch = "x86_64")]
    calls.insert(libc::SYS_poll, Vec::new());
    calls.insert(libc::SYS_ppoll, Vec::new());
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let mask = thread | u64::from(namespaces.cast_unsigned());
    // It may start threads, but no processes.
    let threads = SeccompCmpOp::MaskedEq(mask);
    calls.insert(libc::SYS_clone, vec![when(0, SeccompCmpArgLen::Qword, threads, thread)?]);
    // It may signal itself: the allocator aborts a worker that is out of memory.
    let own = u64::from(std::process::id());
    calls.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own)?]);
    // It may read limits, but not change them.
    let reads = when(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    calls.insert(libc::SYS_prlimit64, vec![reads]);
    // It may name threads and memory.
    let mut named = Vec::new();
    for option in [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA] {
        let option = u64::from(option.cast_unsigned());
        named.push(when(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, option)?);
    }
    calls.insert(libc::SYS_prctl, named);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    program(calls, refused, SeccompAction::Allow)
}

/// A rule about one argument. `width` is the part of the register that the kernel reads.
fn when(
    argument: u8,
    width: SeccompCmpArgLen,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::Error> {
    let condition = SeccompCondition::new(argument, width, op, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn program(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, seccompiler::Error> {
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(calls, otherwise, these, arch)?.try_into()?)
}

/// Tries actions that a worker must not be able to do, and returns those that succeeded.
pub(crate) fn try_the_barriers() -> Vec<String> {
    let own = std::process::id();
    let attempts: [(&str, io::Result<()>); 9] = [
        ("read a file", File::open("/proc/self/exe").map(drop)),
        ("list a directory", fs::read_dir("/").map(drop)),
        ("write a file", OpenOptions::new().write(true).open("/dev/null").map(drop)),
        ("make a file", File::create(format!("/tmp/mayfly-probe-{own}")).map(drop)),
        ("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("connect", TcpStream::connect("127.0.0.1:1").map(drop)),
        ("send a datagram", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("make a pair of sockets", UnixStream::pair().map(drop)),
        ("start a program", Command::new("/proc/self/exe").arg("--version").spawn().map(drop)),
    ];
    let mut reached: Vec<String> = attempts
        .into_iter()
        .filter(|(_, tried)| tried.is_ok())
        .map(|(what, _)| what.to_owned())
        .collect();
    // It needs threads, and the barriers must hold for them, too.
    let thread = thread::Builder::new().spawn(|| File::open("/proc/self/exe").is_ok());
    match thread.map(thread::JoinHandle::join) {
        Ok(Ok(false)) => {}
        Ok(Ok(true)) => reached.push("read a file from another thread".to_owned()),
        Ok(Err(_)) | Err(_) => {
            reached.push("start no thread, although it needs threads".to_owned())
        }
    }
    reached
}
