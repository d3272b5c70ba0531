//! Other servers: how to find and start them. `known` lists them.

mod known;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use serde::Serialize;

pub(super) use self::known::{FRESH, WASMTIME_SERVE};
use self::known::{KNOWN, Variant};
use crate::machine::version_of;

/// A peer from the command line.
#[derive(Clone, Debug)]
pub struct CustomPeer {
    name: String,
    command: String,
}

impl FromStr for CustomPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("it must be NAME=COMMAND")?;
        if name.is_empty() || !command.contains("{port}") {
            return Err("it must have a name, and {port} in its command".into());
        }
        Ok(Self { name: name.to_owned(), command: command.to_owned() })
    }
}

/// How to start a server.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) isolation: String,
    program: PathBuf,
    arguments: Vec<String>,
    files: &'static [(&'static str, &'static str)],
    environment: Environment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Environment {
    Empty,
    /// The environment of this program: a command from the command line expects the user's PATH.
    Inherited,
}

impl Recipe {
    /// Whether the server runs a guest. Otherwise it has a hello of its own.
    pub(super) fn takes_guest(&self) -> bool {
        self.arguments.iter().any(|argument| argument.contains("{guest}"))
    }

    /// Writes the server's files into `dir` and returns its program and arguments.
    pub(super) fn command(
        &self,
        port: u16,
        guest: &Path,
        dir: &Path,
    ) -> anyhow::Result<(PathBuf, Vec<String>)> {
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{guest}", &guest.display().to_string())
                .replace("{dir}", &dir.display().to_string())
        };
        for (name, content) in self.files {
            std::fs::write(dir.join(name), fill(content))?;
        }
        Ok((self.program.clone(), self.arguments.iter().map(|text| fill(text)).collect()))
    }

    /// Sets the environment of its process.
    pub(super) fn prepare(&self, command: &mut Command) {
        if self.environment == Environment::Empty {
            command.env_clear();
        }
    }

    /// The command line for the report, with placeholders for the parts that vary.
    pub(super) fn shown(&self) -> String {
        let program = self.program.file_name().unwrap_or_default().display().to_string();
        match self.environment {
            Environment::Empty => format!("{program} {}", self.arguments.join(" ")),
            Environment::Inherited => self.arguments[1].clone(),
        }
    }
}

/// A target that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Missing {
    pub(super) name: String,
    pub(super) reason: String,
}

/// Looks for the wanted peers. Returns recipes for those that are installed, and those that are
/// missing.
pub(super) fn find(
    wanted: &[String],
    dirs: &[PathBuf],
    own: &[CustomPeer],
) -> anyhow::Result<(Vec<Recipe>, Vec<Missing>)> {
    for name in wanted.iter().filter(|name| *name != "none") {
        let names: Vec<_> = KNOWN.iter().map(|peer| peer.name).collect();
        anyhow::ensure!(
            names.contains(&name.as_str()),
            "there is no peer `{name}`; the known peers are {}; add others with --peer",
            names.join(", ")
        );
    }
    let (mut recipes, mut missing) = (Vec::new(), Vec::new());
    for peer in KNOWN.iter().filter(|peer| wanted.iter().any(|name| name == peer.name)) {
        match locate(peer.program, dirs) {
            Some(program) => {
                recipes.extend(peer.variants.iter().map(|variant| variant.recipe(&program)))
            }
            None => missing.push(Missing {
                name: peer.name.to_owned(),
                reason: format!("not found on this machine; to install it: `{}`", peer.install),
            }),
        }
    }
    recipes.extend(own.iter().map(CustomPeer::recipe));
    Ok((recipes, missing))
}

impl Variant {
    fn recipe(&self, program: &Path) -> Recipe {
        Recipe {
            name: self.name.to_owned(),
            version: version_of(program),
            isolation: self.isolation.to_owned(),
            program: program.to_owned(),
            arguments: self.arguments.iter().map(|text| (*text).to_owned()).collect(),
            files: self.files,
            environment: Environment::Empty,
        }
    }
}

impl CustomPeer {
    fn recipe(&self) -> Recipe {
        Recipe {
            name: self.name.clone(),
            version: "?".into(),
            isolation: "?".into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), self.command.clone()],
            files: &[],
            environment: Environment::Inherited,
        }
    }
}

/// The path of a program: the first that exists in `dirs`, then in PATH.
fn locate(program: &[&str], dirs: &[PathBuf]) -> Option<PathBuf> {
    let default = env::home_dir().map(|home| home.join(".cache/mayfly/peers"));
    let default = default.filter(|_| dirs.is_empty());
    let path = env::var_os("PATH").unwrap_or_default();
    let by_dir =
        dirs.iter().chain(&default).flat_map(|dir| program.iter().map(|name| dir.join(name)));
    let in_path = program.last().into_iter();
    let in_path = in_path.flat_map(|name| env::split_paths(&path).map(move |dir| dir.join(name)));
    by_dir.chain(in_path.collect::<Vec<_>>()).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_in_the_given_places_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::write(dir.path().join("bin/sh"), "").unwrap();
        let dirs = [dir.path().to_owned()];
        assert_eq!(locate(&["bin/sh", "sh"], &dirs), Some(dir.path().join("bin/sh")));
        let in_path = locate(&["bin/none", "sh"], &dirs).unwrap();
        assert!(in_path.ends_with("sh") && !in_path.starts_with(dir.path()), "{in_path:?}");
        assert_eq!(locate(&["there-is-no-such-program"], &dirs), None);
    }

    #[test]
    fn a_missing_peer_is_reported_with_its_install_command() {
        let error = find(&["absent".into()], &[], &[]).unwrap_err();
        assert!(error.to_string().starts_with("there is no peer `absent`"), "{error}");
        let (recipes, missing) = find(&["none".into()], &[], &[]).unwrap();
        assert_eq!((recipes.len(), missing.len()), (0, 0));
    }

    #[test]
    fn a_custom_peer_has_a_name_and_a_port() {
        let peer: CustomPeer = "mine=serve --port {port} {guest}".parse().unwrap();
        let recipe = peer.recipe();
        assert!(recipe.takes_guest());
        let dir = Path::new("/nowhere");
        let (program, arguments) = recipe.command(7, Path::new("a.wasm"), dir).unwrap();
        assert_eq!(program, Path::new("/bin/sh"));
        assert_eq!(arguments, ["-c", "serve --port 7 a.wasm"]);
        assert!("mine=serve".parse::<CustomPeer>().is_err());
        assert!("=serve {port}".parse::<CustomPeer>().is_err());
    }
}
