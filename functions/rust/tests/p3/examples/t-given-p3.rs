//! A command of WASI 0.3 that reads the files that the function was given by the interfaces of 0.3. The
//! first argument selects what it does:
//!
//! - `/all`: reads and lists what is there, and tries to change it; answers what it has seen.

use wasip3::cli::{environment, stdout};
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip3::wit_bindgen::{self, StreamResult};
use wasip3::wit_stream;

struct Command;

wasip3::cli::command::export!(Command);

const NONE: PathFlags = PathFlags::empty();

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let file = environment::get_arguments().into_iter().next().unwrap_or_default();
        let file = file.trim_start_matches('/').to_owned();
        let (mut output, input) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            let _ = stdout::write_via_stream(input).await;
        });
        let answer = match preopens::get_directories().pop() {
            Some((root, name)) => match all(&root, &file).await {
                Ok(seen) => format!("{name} {seen}"),
                Err(error) => format!("{name} failed: {error:?}"),
            },
            None => "failed: no directory".to_owned(),
        };
        output.write_all(format!("Content-Type: text/plain\n\n{answer}\n").into_bytes()).await;
        Ok(())
    }
}

async fn all(root: &Descriptor, path: &str) -> Result<String, ErrorCode> {
    let file = root.open_at(NONE, path.to_owned(), OpenFlags::empty(), DescriptorFlags::READ).await?;
    let (stream, ended) = file.read_via_stream(0);
    let content = collect(stream).await;
    ended.await?;
    let (stream, ended) = root.read_directory();
    let names: Vec<String> = collect(stream).await.into_iter().map(|entry| entry.name).collect();
    ended.await?;
    let stat = file.stat().await?;
    let time = stat.data_modification_timestamp.map(|time| time.seconds);

    let write = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let refused = [
        root.open_at(NONE, path.to_owned(), OpenFlags::empty(), write).await.map(drop),
        root.open_at(NONE, "new".to_owned(), OpenFlags::CREATE, write).await.map(drop),
        root.open_at(NONE, path.to_owned(), OpenFlags::TRUNCATE, DescriptorFlags::READ).await.map(drop),
        root.create_directory_at("new".to_owned()).await,
        root.unlink_file_at(path.to_owned()).await,
        root.rename_at(path.to_owned(), root, "new".to_owned()).await,
        file.set_times(NewTimestamp::Now, NewTimestamp::Now).await,
        root.open_at(NONE, "../etc".to_owned(), OpenFlags::empty(), DescriptorFlags::READ)
            .await
            .map(drop),
    ];
    let refused: Vec<String> =
        refused.iter().map(|result| format!("{:?}", result.as_ref().err())).collect();
    let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
    let names = names.join(",");
    Ok(format!("{} {sum} {} {time:?} {names} {}", content.len(), stat.size, refused.join(" ")))
}

async fn collect<T: 'static>(mut stream: wasip3::wit_bindgen::StreamReader<T>) -> Vec<T> {
    let mut all = Vec::new();
    loop {
        let (result, part) = stream.read(Vec::with_capacity(50)).await;
        all.extend(part);
        if !matches!(result, StreamResult::Complete(_)) {
            return all;
        }
    }
}
