//! Server processes: the harness starts them, reads `/proc` for their CPU time and memory, and
//! stops them.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

/// Timeout of a server's start and of its stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two attempts to connect to a server that does not listen yet.
const POLL: Duration = Duration::from_micros(200);

/// A server process on the loopback interface. It ends on drop.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `program`. Its output goes to the file `log`. Its environment is empty, so that
    /// neither `RUST_BACKTRACE` nor settings of this shell change the figures.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(program: &Path, arguments: &[String], log: PathBuf) -> anyhow::Result<Self> {
        Self::spawn(Command::new(program).args(arguments).env_clear(), log)
    }

    /// Starts a command with its environment unchanged. Its output goes to the file `log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        Self::launch(command.stdin(Stdio::null()).stdout(Stdio::null()), log)
    }

    /// Like [`start`](Self::start), with a pipe to its standard input and one from its standard
    /// output.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_with_pipes(
        program: &Path,
        arguments: &[String],
        log: PathBuf,
    ) -> anyhow::Result<(Self, ChildStdin, ChildStdout)> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = Self::launch(&mut command, log)?;
        let pipes = server.child.stdin.take().zip(server.child.stdout.take());
        let (input, output) = pipes.context("the process has no pipes")?;
        Ok((server, input, output))
    }

    fn launch(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(&log)?;
        let spawned = command.stderr(output).spawn();
        let child =
            spawned.with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections at `addr`.
    ///
    /// # Errors
    /// When the process ends first, or takes too long.
    pub fn wait_for(&mut self, addr: SocketAddr) -> anyhow::Result<()> {
        let since = Instant::now();
        while TcpStream::connect(addr).is_err() {
            self.ensure_running()?;
            ensure!(since.elapsed() < PATIENCE, "no server on {addr} after {PATIENCE:?}");
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    /// When it has ended. The message holds the end of its log.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        bail!("the server ended ({status}): {}", last.join(" | "))
    }

    /// Warnings, errors and panics in its log.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let bad = |line: &&str| {
            line.contains("\"WARN\"") || line.contains("\"ERROR\"") || line.contains("panicked")
        };
        log.lines().filter(bad).map(ToOwned::to_owned).collect()
    }

    /// Sends SIGTERM and waits until the process has ended.
    ///
    /// # Errors
    /// When it does not stop in time or does not exit with 0.
    pub fn stop(mut self) -> anyhow::Result<Duration> {
        let since = Instant::now();
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status} on SIGTERM");
                return Ok(since.elapsed());
            }
            ensure!(since.elapsed() < PATIENCE, "the server does not stop on SIGTERM");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The processes may have ended already; then there is nothing to kill. After a wait for
        // the process its id may belong to another, whose descendants must not be killed.
        if let Ok(None) = self.child.try_wait() {
            let children = family(self.pid()).into_iter().skip(1);
            let children = children.filter_map(|pid| Pid::from_raw(pid.cast_signed()));
            for pid in children {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process and its descendants, itself first.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> =
        pids.filter_map(|pid| Some((pid, stat(pid).ok()?.get(1)?.parse().ok()?))).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(member) = family.get(next).copied() {
        let children = parents.iter().filter(|(child, parent)| {
            // Processes end during the scan and the kernel reuses ids, so that the scan can contain
            // a circle: add each id once.
            *parent == member && !family.contains(child)
        });
        let children: Vec<u32> = children.map(|(child, _)| *child).collect();
        family.extend(children);
        next += 1;
    }
    family
}

/// The fields of `/proc/PID/stat`, from the third one, the state.
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program is in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(") ").context("an unknown format of /proc/PID/stat")?;
    Ok(fields.split(' ').map(ToOwned::to_owned).collect())
}

/// CPU time of a process and its descendants so far, in seconds, including descendants that have
/// ended and were waited for.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let ticks = |fields: Vec<String>| -> u64 {
        fields.iter().skip(11).take(4).flat_map(|field| field.parse::<u64>()).sum()
    };
    let own = ticks(stat(pid)?);
    let others = family(pid).into_iter().skip(1);
    let others: u64 = others.filter_map(|pid| stat(pid).ok()).map(ticks).sum();
    Ok((own + others) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The memory use of a process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Resident set, in megabytes of 10^6 bytes.
    pub rss_mb: f64,
    /// Proportional set: the resident set, with each shared page divided by its number of users.
    pub pss_mb: f64,
    /// Mappings in the address space; the kernel allows `vm.max_map_count` of them.
    pub mappings: usize,
}

impl Memory {
    /// Reads the memory use of a process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let megabytes = |text: &str, name: &str| {
            let kibibytes = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: f64 = kibibytes.trim().trim_end_matches(" kB").parse().ok()?;
            Some(kibibytes * 1_024.0 / 1e6)
        };
        let rss = megabytes(&read("status")?, "VmRSS:");
        let pss = megabytes(&read("smaps_rollup")?, "Pss:");
        Ok(Self {
            rss_mb: rss.context("no VmRSS in /proc/PID/status")?,
            pss_mb: pss.context("no Pss in /proc/PID/smaps_rollup")?,
            mappings: read("maps")?.lines().count(),
        })
    }

    /// Reads the memory use of a process and its descendants.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of_family(pid: u32) -> anyhow::Result<Self> {
        let mut all = Self::of(pid)?;
        // A process that has ended meanwhile uses no memory.
        for one in family(pid).into_iter().skip(1).filter_map(|pid| Self::of(pid).ok()) {
            all.rss_mb += one.rss_mb;
            all.pss_mb += one.pss_mb;
            all.mappings += one.mappings;
        }
        Ok(all)
    }
}

/// A free loopback address.
///
/// The port is below those that the kernel assigns to clients: a client that polls one of those
/// until its server listens can end up connected to itself.
///
/// # Errors
/// When no port is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (0..2_000)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, first + NEXT.fetch_add(1, Relaxed))))
        .find(|addr| TcpListener::bind(addr).is_ok())
        .context("no free port on the loopback interface")
}

/// A program beside this one, in the same target directory.
///
/// # Errors
/// When the program is not built. The message says how to build it.
pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program")?;
    // Cargo puts benchmarks one directory deeper than programs.
    let built = this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|p| p.is_file());
    built.with_context(|| {
        format!(
            "there is no `{name}` beside {}; build it first: cargo build --release -p gateway -p \
             benches",
            this.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let pid = std::process::id();
        let before = cpu_seconds(pid).unwrap();
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds(pid).unwrap() > before);
        let memory = Memory::of(pid).unwrap();
        assert!(memory.rss_mb > 1.0 && memory.pss_mb > 0.1 && memory.mappings > 10, "{memory:?}");
    }

    #[test]
    fn children_belong_to_a_server_and_end_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 60 & sleep 60 & wait"]);
        let server = Server::spawn(&mut command, dir.path().join("log")).unwrap();
        let pid = server.pid();
        let since = Instant::now();
        while family(pid).len() < 3 {
            assert!(since.elapsed() < PATIENCE, "{:?}", family(pid));
            thread::sleep(Duration::from_millis(5));
        }
        let children = family(pid).split_off(1);
        assert!(Memory::of_family(pid).unwrap().rss_mb > Memory::of(pid).unwrap().rss_mb);
        drop(server);
        for child in children {
            // Their parent has ended: at most they are zombies until init waits for them.
            let gone = || stat(child).map_or(true, |fields| fields[0] == "Z");
            while !gone() {
                assert!(since.elapsed() < PATIENCE, "{child} lives");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn addresses_are_not_given_twice() {
        assert_ne!(free_address().unwrap(), free_address().unwrap());
    }

    #[test]
    fn waiting_for_a_server_ends_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let program = Path::new("/bin/false");
        let mut server = Server::start(program, &[], dir.path().join("log")).unwrap();
        let error = server.wait_for(free_address().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("the server ended"), "{error}");
    }
}
