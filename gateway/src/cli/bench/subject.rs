//! The artifacts to measure: files, or functions of a gateway.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use gateway_api::{FunctionLimit, FunctionView, LimitValues, OtherSettings, SnapshotSetting};
use runtime_pool::{ArtifactDigest, FunctionKey, FunctionSpec, Grant, Isolation, Limits};
use sha2::{Digest as _, Sha256};
use store::SnapshotMode;

use crate::{
    cli::{
        client::{Client, Remote, transport::escape, unreadable},
        failure::Failure,
    },
    functions::catalog::start_function,
};

/// An artifact to measure.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The name of its rows, by which `compare` finds them in another measurement.
    pub(crate) name: String,
    pub(crate) key: FunctionKey,
    pub(crate) spec: FunctionSpec,
}

/// Finds all artifacts. Those of a gateway are downloaded to `dir`.
pub(crate) async fn find(
    files: &[PathBuf],
    functions: &[String],
    remote: &Remote,
    dir: &Path,
) -> Result<Vec<Subject>, Failure> {
    let mut subjects = Vec::new();
    for file in files {
        subjects.push(Subject::of_file(file)?);
    }
    if !functions.is_empty() {
        let client = Client::new(remote)?;
        for name in functions {
            subjects.push(fetch(&client, name, dir).await?);
        }
    }
    let mut names = HashSet::new();
    for (subject, number) in subjects.iter_mut().zip(1..) {
        // A key for each: two names may have the same artifact, which is compiled once.
        subject.key.function = number;
        if !names.insert(subject.name.clone()) {
            return Err(Failure::usage(format!("`{}` is named twice", subject.name)).note(
                "hint: rows have the names of their files; give each file a different name",
            ));
        }
    }
    Ok(subjects)
}

impl Subject {
    /// A file, with the default limits.
    pub(crate) fn of_file(file: &Path) -> Result<Self, Failure> {
        Self::new(name_of(file), file.to_owned())
    }

    /// An artifact with the default limits.
    fn new(name: String, artifact: PathBuf) -> Result<Self, Failure> {
        let wasm = fs::read(&artifact).map_err(|error| unreadable(&artifact, &error))?;
        let spec = FunctionSpec {
            tenant: "default".into(),
            name: name.as_str().into(),
            digest: ArtifactDigest(Sha256::digest(&wasm).into()),
            artifact,
            label: name.as_str().into(),
            limits: Limits::default(),
            environment: Vec::new(),
            outbound: Vec::new(),
            credentials: Vec::new(),
            isolation: Isolation::Request,
            capabilities: None,
            files: None,
            max_warm: 0,
            arguments: Vec::new(),
            stream_body: false,
            snapshot: None,
        };
        Ok(Self {
            name,
            key: FunctionKey { function: 0, revision: 1, generation: 0, overlay: 0 },
            spec,
        })
    }

    /// The digest in the API's form.
    pub(crate) fn digest(&self) -> String {
        let hex = self.spec.digest.0.iter().map(|byte| format!("{byte:02x}"));
        format!("sha256:{}", hex.collect::<String>())
    }
}

/// The name of a file, without its directory and `.wasm`.
fn name_of(file: &Path) -> String {
    let name = if file.extension().is_some_and(|extension| extension == "wasm") {
        file.file_stem()
    } else {
        file.file_name()
    };
    name.unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// The active revision of a gateway's function, with its settings.
async fn fetch(client: &Client, name: &str, dir: &Path) -> Result<Subject, Failure> {
    let path = format!("/v1/functions/{}", escape(name));
    let view: FunctionView = client.get(&path).await?.parse()?;
    // Of this revision: another one may become active meanwhile.
    let artifact = client.get(&format!("{path}/artifact?revision={}", view.revision)).await?;
    // The server's names are not used as paths.
    let file = dir.join(format!("{}.wasm", hex_of(name)));
    fs::write(&file, &artifact.body)
        .map_err(|error| Failure::failed(format!("writing {}: {error}", file.display())))?;
    let mut subject = Subject::new(name.to_owned(), file)?;
    apply(&mut subject.spec, view.settings.others, &view.limits);
    Ok(subject)
}

fn hex_of(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Applies the settings and limits that decide how an invocation goes.
fn apply(spec: &mut FunctionSpec, settings: OtherSettings, limits: &LimitValues) {
    spec.limits.memory_bytes = limits.size(FunctionLimit::MemoryBytes);
    spec.limits.cpu = Duration::from_millis(limits[FunctionLimit::CpuMs]);
    spec.limits.timeout = Duration::from_millis(limits[FunctionLimit::TimeoutMs]);
    spec.environment = settings.environment.into_iter().collect();
    // A gateway of a later version may permit forms of hosts that this version does not know.
    let hosts = settings.outbound.iter().filter_map(|host| host.parse().ok());
    spec.outbound = hosts.collect::<Vec<Grant>>();
    let snapshot = settings.snapshot.map(|snapshot| match snapshot {
        SnapshotSetting::Switch(on) => SnapshotMode::Switch(on),
        SnapshotSetting::After(function) => SnapshotMode::After(function),
    });
    spec.snapshot = snapshot.as_ref().and_then(start_function).map(Into::into);
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_row_is_named_for_its_file() {
        for (file, name) in [
            ("functions/dist/hello.wasm", "hello"),
            ("/a/b.c.wasm", "b.c"),
            ("a/hello", "hello"),
            ("a/hello.bin", "hello.bin"),
        ] {
            assert_eq!(name_of(Path::new(file)), name);
        }
    }

    #[test]
    fn a_functions_own_settings_hold() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.wasm");
        fs::write(&file, b"\0asm").unwrap();
        let mut spec = Subject::new("x".to_owned(), file).unwrap().spec;
        let settings = json!({
            "environment": {"A": "1"},
            "outbound": ["x.example"],
            "snapshot": true,
            "unknown": 1,
        });
        let limits = json!({"memory_bytes": 1024, "cpu_ms": 5, "unknown": 1});
        let (settings, limits) = (from_value(settings).unwrap(), from_value(limits).unwrap());
        apply(&mut spec, settings, &limits);
        assert_eq!(spec.environment, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(spec.snapshot.as_deref(), Some("wizer-initialize"));
        assert_eq!((spec.limits.memory_bytes, spec.outbound.len()), (1_024, 1));
        assert_eq!(spec.limits.cpu, Duration::from_millis(5));
        assert_eq!(spec.limits.timeout, Limits::default().timeout);
    }
}
