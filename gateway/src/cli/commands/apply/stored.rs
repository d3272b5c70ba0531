//! What the functions of a manifest need of this machine: artifacts and directories of files. Each is
//! sent unless the gateway has it.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io,
    path::Path,
};

use http::{Method, header};
use store::Digest;

use crate::cli::{
    client::{Client, body, build, transport, unreadable},
    commands::{
        deploy::{ArtifactFile, DEPLOY},
        files,
    },
    failure::Failure,
    manifest::{LocalFunction, ManifestFile, StoredFunction},
    output::Output,
};

/// A function whose artifact has been read once.
pub(super) struct ReadFunction {
    function: LocalFunction,
    length: u64,
    digest: Digest,
}

/// Reads every artifact. Whatever is missing is told at once, before anything is sent.
pub(super) fn read(file: &ManifestFile) -> Result<Vec<ReadFunction>, Failure> {
    let (mut read, mut missing) = (Vec::new(), Vec::new());
    for function in file.functions() {
        let path = format!("functions.{}", function.name);
        if let Some(files) = &function.files
            && !files.directory.is_dir()
        {
            let text = format!("{} is no directory", files.directory.display());
            missing.push((format!("{path}.files"), text));
        }
        match digest(&function.artifact) {
            Ok((length, digest)) => read.push(ReadFunction { function, length, digest }),
            Err(error) => {
                let text = format!("reading {}: {error}", function.artifact.display());
                missing.push((format!("{path}.artifact"), text));
            }
        }
    }
    if missing.is_empty() { Ok(read) } else { Err(file.unreadable(&missing)) }
}

fn digest(path: &Path) -> io::Result<(u64, Digest)> {
    body::digest(File::open(path)?)
}

/// Sends what the gateway does not have.
pub(super) async fn send(
    client: &Client,
    functions: Vec<ReadFunction>,
    output: Output,
) -> Result<BTreeMap<String, StoredFunction>, Failure> {
    let mut stored = BTreeMap::new();
    let mut sent = HashSet::new();
    for ReadFunction { function, length, digest } in functions {
        let LocalFunction { name, artifact, files } = function;
        if sent.insert(digest) {
            send_artifact(client, &artifact, length, &digest, output).await?;
        }
        let tree = match files {
            Some(files) => Some(files::send(client, &files.directory, output).await?),
            None => None,
        };
        stored.insert(name, StoredFunction { artifact: format!("sha256:{digest}"), tree });
    }
    Ok(stored)
}

async fn send_artifact(
    client: &Client,
    path: &Path,
    length: u64,
    digest: &Digest,
    output: Output,
) -> Result<(), Failure> {
    let target = format!("/v1/artifacts/sha256:{digest}");
    let question = build(client.request(Method::HEAD, &target)?, transport::empty())?;
    // An error has no reason here, because the answer has no body. The upload's answer has it.
    if client.answer(question, DEPLOY).await?.status.is_success() {
        return Ok(());
    }
    // If the file has changed since it was read, the gateway refuses it because of the digest.
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let request =
        client.request(Method::PUT, &target)?.header(header::CONTENT_TYPE, "application/wasm");
    ArtifactFile { path, file, length }.send(client, request, output).await?;
    Ok(())
}
