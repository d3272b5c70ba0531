//! A command of WASI 0.3 that works with files by the interfaces of 0.3. The first argument selects what
//! it does:
//!
//! - `/all`: each operation once, with its result checked;
//! - `/escape`: tries to get out of the directory, and to make links;
//! - `/fill`: connects a file to its own end, until there is no space;
//! - `/left`: what there is in the directory, and leaves a file there.

use wasip3::cli::{environment, stdout};
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip3::wit_bindgen::{self, StreamResult};
use wasip3::wit_stream;

struct Command;

wasip3::cli::command::export!(Command);

const NONE: PathFlags = PathFlags::empty();

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let path = environment::get_arguments().into_iter().next().unwrap_or_default();
        let (mut output, input) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            let _ = stdout::write_via_stream(input).await;
        });
        let root = match preopens::get_directories().pop() {
            Some((root, name)) => {
                assert_eq!(name, "/tmp");
                root
            }
            None => {
                output.write_all(b"Content-Type: text/plain\n\nfailed: no directory\n".to_vec()).await;
                return Ok(());
            }
        };
        let answer = match path.as_str() {
            "/all" => all(&root).await.map(|()| "all is well".to_owned()),
            "/escape" => Ok(escape(&root).await),
            "/fill" => fill(&root).await,
            _ => left(&root).await,
        };
        let answer = answer.unwrap_or_else(|error| format!("failed: {error:?}"));
        output.write_all(format!("Content-Type: text/plain\n\n{answer}\n").into_bytes()).await;
        Ok(())
    }
}

async fn open(directory: &Descriptor, path: &str) -> Result<Descriptor, ErrorCode> {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    directory.open_at(NONE, path.to_owned(), OpenFlags::CREATE, flags).await
}

async fn write(file: &Descriptor, bytes: &[u8], offset: Option<u64>) -> Result<(), ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let bytes = bytes.to_vec();
    wit_bindgen::spawn_local(async move {
        writer.write_all(bytes).await;
    });
    match offset {
        Some(offset) => file.write_via_stream(reader, offset).await,
        None => file.append_via_stream(reader).await,
    }
}

async fn read(file: &Descriptor, offset: u64) -> Result<Vec<u8>, ErrorCode> {
    let (mut stream, ended) = file.read_via_stream(offset);
    let (mut all, mut buffer) = (Vec::new(), Vec::with_capacity(1_000));
    loop {
        let (result, chunk) = stream.read(buffer).await;
        all.extend_from_slice(&chunk);
        buffer = chunk;
        buffer.clear();
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    drop(stream);
    ended.await.map(|()| all)
}

async fn names(directory: &Descriptor) -> Result<Vec<String>, ErrorCode> {
    let (mut stream, ended) = directory.read_directory();
    let mut names = Vec::new();
    loop {
        let (result, entries) = stream.read(Vec::with_capacity(10)).await;
        names.extend(entries.into_iter().map(|entry| entry.name));
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    drop(stream);
    ended.await.map(|()| names)
}

async fn all(root: &Descriptor) -> Result<(), ErrorCode> {
    root.create_directory_at("d".to_owned()).await?;
    let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
    let directory = root.open_at(NONE, "d".to_owned(), OpenFlags::DIRECTORY, flags).await?;
    let file = open(&directory, "file").await?;
    write(&file, b"0123456789", Some(0)).await?;
    write(&file, b"end", None).await?;
    write(&file, b"xy", Some(2)).await?;
    assert_eq!(read(&file, 1).await?, b"1xy456789end");
    file.set_size(3).await?;
    file.set_size(5).await?;
    assert_eq!(read(&file, 0).await?, b"01x\0\0");
    file.set_times(NewTimestamp::Now, NewTimestamp::NoChange).await?;
    file.sync().await?;
    let stat = directory.stat_at(NONE, "file".to_owned()).await?;
    assert_eq!((stat.size, stat.link_count), (5, 1));
    assert!(matches!(stat.type_, DescriptorType::RegularFile));
    assert!(file.metadata_hash().await?.lower == root.metadata_hash_at(NONE, "d/file".to_owned()).await?.lower);
    assert!(!file.is_same_object(&directory).await);

    // The host passes one file to another by itself.
    let large: Vec<u8> = (0..2_000_000_u32).map(|n| (n / 3) as u8).collect();
    write(&file, &large, Some(0)).await?;
    let copy = open(&directory, "copy").await?;
    let (stream, ended) = file.read_via_stream(0);
    copy.write_via_stream(stream, 0).await?;
    ended.await?;
    assert!(read(&copy, 0).await? == large);

    directory.rename_at("copy".to_owned(), root, "moved".to_owned()).await?;
    assert_eq!(names(root).await?, ["d", "moved"]);
    for n in 0..300 {
        open(&directory, &n.to_string()).await?;
    }
    assert_eq!(names(&directory).await?.len(), 301);
    assert!(matches!(root.remove_directory_at("d".to_owned()).await, Err(ErrorCode::NotEmpty)));
    assert!(matches!(root.unlink_file_at("d".to_owned()).await, Err(ErrorCode::IsDirectory)));
    assert!(matches!(read(&directory, 0).await, Err(ErrorCode::IsDirectory)));
    assert!(matches!(names(&file).await, Err(ErrorCode::NotDirectory)));
    let read_only = root.open_at(NONE, "moved".to_owned(), OpenFlags::empty(), DescriptorFlags::READ);
    let read_only = read_only.await?;
    assert!(matches!(write(&read_only, b"x", None).await, Err(ErrorCode::BadDescriptor)));
    directory.unlink_file_at("file".to_owned()).await?;
    // It stays for those that have it open.
    assert_eq!(read(&file, 1_999_999).await?.len(), 1);
    for n in 0..300 {
        directory.unlink_file_at(n.to_string()).await?;
    }
    root.unlink_file_at("moved".to_owned()).await?;
    root.remove_directory_at("d".to_owned()).await?;
    assert!(names(root).await?.is_empty());
    Ok(())
}

async fn escape(root: &Descriptor) -> String {
    let text = |text: &str| text.to_owned();
    let mut tries = vec![
        open(root, "/etc/passwd").await.map(drop),
        open(root, "../etc/passwd").await.map(drop),
        open(root, "a/../../x").await.map(drop),
        root.create_directory_at(text("../escaped")).await,
        root.symlink_at(text("/etc/passwd"), text("link")).await,
        root.link_at(NONE, text("file"), root, text("link")).await,
    ];
    let _ = open(root, "file").await;
    tries.push(root.rename_at(text("file"), root, text("../escaped")).await);
    let failed = |result: Result<(), ErrorCode>| if result.is_err() { "refused" } else { "DONE" };
    tries.into_iter().map(failed).collect::<Vec<_>>().join(" ")
}

async fn fill(root: &Descriptor) -> Result<String, ErrorCode> {
    let file = open(root, "full").await?;
    write(&file, &[7; 50_000], None).await?;
    let (stream, _ended) = file.read_via_stream(0);
    let error = file.append_via_stream(stream).await.unwrap_err();
    Ok(format!("{} {error:?}", file.stat().await?.size))
}

async fn left(root: &Descriptor) -> Result<String, ErrorCode> {
    let names = names(root).await?;
    let file = open(root, "left").await?;
    write(&file, b"left", Some(0)).await?;
    Ok(format!("{names:?} {:?}", read(&file, 0).await?))
}
