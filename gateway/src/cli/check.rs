//! `mayfly check`: whether a file can be deployed, and what it needs. No server takes part.

mod manifest;
mod words;

use std::{fs, path::PathBuf, process::ExitCode};

use runtime_pool::{ArtifactLimits, Description, describe};
use serde_json::{Map, Value, json};

use self::words::Meaning;
use crate::{
    cli::{
        bench::{estimate, time},
        client::unreadable,
        failure::Failure,
        output::{Output, print, print_line, table},
        printable::printable,
    },
    config::sizes,
};

/// The most that is read of a file: more than a gateway takes by default.
const FILE_BYTES_MAX: u64 = sizes::GIB;

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The WebAssembly file: a component or a module
    file: PathBuf,
    /// Compile it here, and measure how fast it starts: a few starts with GET /, which must be
    /// answered by 200. `mayfly bench cold-start` measures other requests, and more of them
    #[arg(long)]
    measure: bool,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Check {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let failed = |error: &std::io::Error| unreadable(&self.file, error);
        let length = fs::metadata(&self.file).map_err(|error| failed(&error))?.len();
        if length > FILE_BYTES_MAX {
            let (name, size) = (self.file.display(), sizes::format(length));
            return Err(Failure::failed(format!("{name} has {size}, which no gateway takes")));
        }
        let bytes = fs::read(&self.file).map_err(|error| failed(&error))?;
        let described = describe(&bytes, &ArtifactLimits::default());
        let file = self.file.to_string_lossy().into_owned();
        let starts = match self.measure && described.refusal.is_none() {
            true => Box::pin(estimate(&self.file, self.output)).await?,
            false => Vec::new(),
        };
        let manifest = described.refusal.is_none().then(|| manifest::manifest(&file, &described));
        let checked = Checked { file, size_bytes: bytes.len() as u64, described, manifest, starts };
        match self.output {
            Output::Json => print_line(&checked.json().to_string())?,
            Output::Text => print(checked.text().as_bytes())?,
        }
        let deployable = checked.described.refusal.is_none();
        Ok(if deployable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A file, and what its bytes tell.
struct Checked {
    file: String,
    size_bytes: u64,
    described: Description,
    /// The `mayfly.toml` that deploys it.
    manifest: Option<String>,
    /// How long it takes to start, in microseconds, after the tier; none if that was not measured.
    starts: Vec<(String, f64)>,
}

impl Checked {
    fn json(&self) -> Value {
        let Description { kind, imports, exports, memory_bytes, toolchain, refusal } =
            &self.described;
        let imports: Vec<_> = imports
            .iter()
            .map(|import| {
                let Meaning { words, setting, .. } = words::meaning(&import.name);
                json!({
                    "name": import.name, "provided": import.provided, "means": words,
                    "setting": setting,
                })
            })
            .collect();
        json!({
            "file": self.file, "size_bytes": self.size_bytes, "deployable": refusal.is_none(),
            "refusal": refusal.as_ref().map(ToString::to_string),
            "kind": kind.map(|kind| kind.as_str()), "memory_bytes": memory_bytes,
            "toolchain": toolchain, "exports": exports, "imports": imports,
            "manifest": self.manifest, "starts_us": self.starts(),
        })
    }

    /// The times of starts by their tiers; null if they were not measured.
    fn starts(&self) -> Value {
        let starts: Map<String, Value> =
            self.starts.iter().map(|(tier, us)| (tier.clone(), json!(us))).collect();
        if starts.is_empty() { Value::Null } else { starts.into() }
    }

    fn text(&self) -> String {
        let Description { kind, exports, memory_bytes, toolchain, refusal, .. } = &self.described;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("{name:<12} {}\n", printable(value)));
        };
        line("file", &self.file);
        line("size", &sizes::format(self.size_bytes));
        if let Some(kind) = kind {
            line("kind", &format!("{kind}: {}", words::kind(*kind)));
            line("memory", &format!("{} when an instance starts", sizes::format(*memory_bytes)));
        }
        if !toolchain.is_empty() {
            line("made with", &toolchain.join(", "));
        }
        if !exports.is_empty() {
            line("exports", &shortened(exports));
        }
        let starts = self.starts.iter().map(|(tier, us)| format!("{} {tier}", time(*us)));
        let starts: Vec<String> = starts.collect();
        if !starts.is_empty() {
            line("starts in", &format!("{} (measured here, with GET /)", starts.join(", ")));
        }
        text.push_str(&self.imports());
        text.push('\n');
        match refusal {
            None => {
                text.push_str(&self.deploy_command());
                text.push_str("\nor `mayfly apply` with this mayfly.toml:\n\n");
                for of_manifest in self.manifest.iter().flat_map(|manifest| manifest.lines()) {
                    text.push_str(&format!("{}\n", printable(of_manifest)));
                }
            }
            Some(refusal) => {
                text.push_str(&format!(
                    "cannot be deployed: {}\n",
                    printable(&refusal.to_string())
                ));
            }
        }
        text
    }

    /// What the imports mean, each meaning once.
    fn imports(&self) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for import in &self.described.imports {
            let Meaning { words, setting, .. } = words::meaning(&import.name);
            let provided = match (import.provided, setting) {
                (false, _) => "no",
                (true, None) => "yes",
                (true, Some(setting)) => setting,
            };
            let row = vec![words.to_owned(), provided.to_owned(), import.name.clone()];
            match rows.iter_mut().find(|known| known[..2] == row[..2]) {
                Some(known) => {
                    if !known[2].ends_with('…') {
                        known[2].push_str(", …");
                    }
                }
                None => rows.push(row),
            }
        }
        if rows.is_empty() { String::new() } else { format!("\n{}", table(&HEAD, &rows)) }
    }

    /// The command that deploys it, with the settings that its imports ask for.
    fn deploy_command(&self) -> String {
        let mut imports = self.described.imports.iter();
        let outgoing = imports.any(|import| words::calls_servers(&import.name));
        let hosts = if outgoing { " --allow-host HOST" } else { "" };
        format!("mayfly deploy --name NAME{hosts} {}\n", printable(&self.file))
    }
}

const HEAD: [&str; 3] = ["IT USES", "PROVIDED", "IMPORTED AS"];

/// The first of many names.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
