//! `wasi:filesystem` 0.2 over the files of a guest.

mod streams;

use std::time::Duration;

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult,
    bindings::{
        clocks::wall_clock::Datetime,
        filesystem::{
            preopens,
            types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
                DirectoryEntryStream, ErrorCode, MetadataHashValue, NewTimestamp, OpenFlags,
                PathFlags,
            },
        },
    },
};

use self::streams::{DirectoryReader, FileReader, FileWriter};
use super::{
    component::{Fd, FilesView, GuestFiles, Mode},
    node::{Open, Stat, now},
    refused::{CallFailure, PosixRefusal},
};
use crate::host::Host;

/// Replaces the interfaces.
pub(in crate::host) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<Host, GuestFiles>(linker, Host::files)?;
    preopens::add_to_linker::<Host, GuestFiles>(linker, Host::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl From<CallFailure> for FsError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::PosixRefusal(refused) => ErrorCode::from(refused).into(),
            CallFailure::Trap(error) => Self::trap(error),
        }
    }
}

impl From<PosixRefusal> for ErrorCode {
    fn from(refused: PosixRefusal) -> Self {
        match refused {
            PosixRefusal::BadDescriptor => Self::BadDescriptor,
            PosixRefusal::CrossDevice => Self::CrossDevice,
            PosixRefusal::Exists => Self::Exist,
            PosixRefusal::FileTooLarge => Self::FileTooLarge,
            PosixRefusal::IllegalBytes => Self::IllegalByteSequence,
            PosixRefusal::Invalid => Self::Invalid,
            PosixRefusal::Io => Self::Io,
            PosixRefusal::IsDirectory => Self::IsDirectory,
            PosixRefusal::NameTooLong => Self::NameTooLong,
            PosixRefusal::NoEntry => Self::NoEntry,
            PosixRefusal::NoSpace => Self::InsufficientSpace,
            PosixRefusal::NotDirectory => Self::NotDirectory,
            PosixRefusal::NotEmpty => Self::NotEmpty,
            PosixRefusal::NotPermitted => Self::NotPermitted,
            PosixRefusal::Overflow => Self::Overflow,
            PosixRefusal::ReadOnly => Self::ReadOnly,
            PosixRefusal::TooManyOpen => Self::InsufficientMemory,
            PosixRefusal::Unsupported => Self::Unsupported,
        }
    }
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        self.directories()
    }
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<PosixRefusal>().map(|refused| (*refused).into()))
    }
}

impl types::HostDescriptor for FilesView<'_> {
    async fn advise(&mut self, fd: Fd, _: u64, _: u64, _: Advice) -> FsResult<()> {
        self.get(&fd)?;
        Ok(())
    }

    /// Nothing is written to a disk.
    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        self.get(&fd)?;
        Ok(())
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        self.get(&fd)?;
        Ok(())
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        let mode = self.get(&fd)?.mode;
        let if_set = |set, flag| if set { flag } else { DescriptorFlags::empty() };
        Ok(if_set(mode.read, DescriptorFlags::READ)
            | if_set(mode.write, DescriptorFlags::WRITE)
            | if_set(mode.mutate, DescriptorFlags::MUTATE_DIRECTORY))
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        Ok(kind(self.status(&fd)?.is_directory))
    }

    async fn set_size(&mut self, fd: Fd, size: u64) -> FsResult<()> {
        Ok(self.cut(&fd, size)?)
    }

    async fn set_times(
        &mut self,
        fd: Fd,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        Ok(self.touch(&fd, None, time(accessed)?, time(modified)?)?)
    }

    async fn read(&mut self, fd: Fd, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        let reading = self.read_file(&fd, length, offset)?;
        let bytes = reading.await.map_err(ErrorCode::from)?;
        let ended = bytes.is_empty();
        Ok((bytes, ended))
    }

    async fn write(&mut self, fd: Fd, data: Vec<u8>, offset: u64) -> FsResult<u64> {
        Ok(self.write_file(&fd, &data, offset)?)
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let entries = DirectoryReader::new(self.directory(&fd)?.clone());
        Ok(Resource::new_own(self.table.push(entries)?.rep()))
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        Ok(self.make_directory(&fd, &path)?)
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        Ok(self.status(&fd)?.into())
    }

    async fn stat_at(&mut self, fd: Fd, _: PathFlags, path: String) -> FsResult<DescriptorStat> {
        Ok(self.status_at(&fd, &path)?.into())
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        _: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (time(accessed)?, time(modified)?);
        Ok(self.touch(&fd, Some(&path), accessed, modified)?)
    }

    async fn link_at(&mut self, _: Fd, _: PathFlags, _: String, _: Fd, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        _: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let mode = Mode {
            read: flags.contains(DescriptorFlags::READ),
            write: flags.contains(DescriptorFlags::WRITE),
            mutate: flags.contains(DescriptorFlags::MUTATE_DIRECTORY),
        };
        let how = Open {
            create: how.contains(OpenFlags::CREATE),
            exclusive: how.contains(OpenFlags::EXCLUSIVE),
            truncate: how.contains(OpenFlags::TRUNCATE),
            directory: how.contains(OpenFlags::DIRECTORY),
            write: mode.write,
        };
        Ok(self.open(&fd, &path, how, mode)?)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.close(&fd)
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        Ok(self.read_link(&fd, &path)?)
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        Ok(self.remove_directory(&fd, &path)?)
    }

    async fn rename_at(
        &mut self,
        fd: Fd,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        Ok(self.rename((&fd, &path), (&new_fd, &new_path))?)
    }

    async fn symlink_at(&mut self, _: Fd, _: String, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        Ok(self.remove_file(&fd, &path)?)
    }

    fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let reader = FileReader::new(self.readable(&fd)?.clone(), offset);
        Ok(self.table.push(Box::new(reader) as DynInputStream)?)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let writer = FileWriter::new(self.writable(&fd)?.clone(), Some(offset));
        Ok(self.table.push(Box::new(writer) as DynOutputStream)?)
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let writer = FileWriter::new(self.writable(&fd)?.clone(), None);
        Ok(self.table.push(Box::new(writer) as DynOutputStream)?)
    }

    async fn is_same_object(&mut self, one: Fd, other: Fd) -> wasmtime::Result<bool> {
        self.is_same(&one, &other)
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        Ok(hash(self.status(&fd)?))
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Fd,
        _: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(hash(self.status_at(&fd, &path)?))
    }
}

impl types::HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let stream = Resource::<DirectoryReader>::new_borrow(stream.rep());
        let next = self.table.get_mut(&stream)?.next();
        Ok(next.map(|(name, is_directory)| DirectoryEntry { type_: kind(is_directory), name }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<DirectoryReader>::new_own(stream.rep()))?;
        Ok(())
    }
}

impl From<Stat> for DescriptorStat {
    fn from(stat: Stat) -> Self {
        let date = |time: Duration| {
            Some(Datetime { seconds: time.as_secs(), nanoseconds: time.subsec_nanos() })
        };
        Self {
            type_: kind(stat.is_directory),
            link_count: stat.links,
            size: stat.size,
            data_access_timestamp: date(stat.times.accessed),
            data_modification_timestamp: date(stat.times.modified),
            status_change_timestamp: date(stat.times.changed),
        }
    }
}

fn kind(is_directory: bool) -> DescriptorType {
    if is_directory { DescriptorType::Directory } else { DescriptorType::RegularFile }
}

/// C libraries use the lower half as the number of the file.
fn hash(stat: Stat) -> MetadataHashValue {
    MetadataHashValue { lower: u64::from(stat.node) + 1, upper: stat.device }
}

fn time(time: NewTimestamp) -> FsResult<Option<Duration>> {
    match time {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(now())),
        NewTimestamp::Timestamp(Datetime { nanoseconds: 1_000_000_000.., .. }) => {
            Err(ErrorCode::Invalid.into())
        }
        NewTimestamp::Timestamp(Datetime { seconds, nanoseconds }) => {
            Ok(Some(Duration::new(seconds, nanoseconds)))
        }
    }
}
