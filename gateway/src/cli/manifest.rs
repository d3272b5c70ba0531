//! `mayfly.toml`: read, checked without a gateway, and turned into the document that the API takes.
//!
//! The schema says which keys there are. What only a gateway can know, it says in a problem with the
//! paths of all mistakes, which are turned into lines and columns here.

mod check;
mod paths;
mod schema;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use gateway_api::{LIMITS, Manifest, MountView, OTHER_SETTINGS};
use serde_json::{Map, Value};
use toml::de::DeTable;

pub(crate) use self::schema::schema;
use self::{
    check::{Mistake, check},
    paths::offset_of,
};
use crate::{
    cli::{client::unreadable, failure::Failure},
    config::{place::line_and_column, sizes},
};

/// The name of the file in the directory of a project.
pub(crate) const FILE_NAME: &str = "mayfly.toml";

/// The most that is read. Far above what a gateway takes; bounds the memory for another file.
const FILE_BYTES_MAX: u64 = 16 * sizes::MIB;

/// So many mistakes are printed of one file.
const PRINTED_MAX: usize = 20;

/// A manifest in which nothing is wrong that can be seen without a gateway.
pub(crate) struct ManifestFile {
    path: PathBuf,
    text: String,
    content: Value,
}

/// What a function needs of the machine's files.
pub(crate) struct LocalFunction {
    pub(crate) name: String,
    pub(crate) artifact: PathBuf,
    pub(crate) files: Option<LocalFiles>,
}

/// A directory whose files a function is given.
pub(crate) struct LocalFiles {
    pub(crate) directory: PathBuf,
    /// Where guests see it.
    at: Option<String>,
}

/// The digests by which a gateway knows what a function needs.
pub(crate) struct StoredFunction {
    pub(crate) artifact: String,
    pub(crate) tree: Option<String>,
}

impl ManifestFile {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| unreadable(path, error);
        let length = fs::metadata(path).map_err(|error| failed(&error))?.len();
        if length > FILE_BYTES_MAX {
            let size = sizes::format(length);
            return Err(Failure::failed(format!(
                "{} has {size}: is it a manifest?",
                path.display()
            )));
        }
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        Self::parse(path, text)
    }

    fn parse(path: &Path, text: String) -> Result<Self, Failure> {
        let document = DeTable::parse(&text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            Failure::failed(format!("{}: {}", at(path, &text, offset), error.message()))
        })?;
        match check(document.get_ref(), &schema()) {
            Ok(content) => Ok(Self { path: path.to_owned(), text, content }),
            Err(mistakes) => Err(failure(path, &text, &mistakes)),
        }
    }

    /// The files of each function. Their paths begin at the directory of the manifest.
    pub(crate) fn functions(&self) -> Vec<LocalFunction> {
        let base = self.path.parent().unwrap_or(Path::new(""));
        let path = |value: &Value| value.as_str().map(|path| base.join(path));
        let functions = self.content["functions"].as_object().into_iter().flatten();
        let functions = functions.map(|(name, function)| {
            let files = &function["files"];
            let at = files["at"].as_str().map(str::to_owned);
            LocalFunction {
                name: name.clone(),
                artifact: path(&function["artifact"]).unwrap_or_default(),
                files: path(files)
                    .or_else(|| path(&files["path"]))
                    .map(|directory| LocalFiles { directory, at }),
            }
        });
        functions.collect()
    }

    /// The document for a gateway that has all artifacts and files.
    pub(crate) fn manifest(
        &self,
        stored: &BTreeMap<String, StoredFunction>,
    ) -> Result<Manifest, Failure> {
        let mut content = self.content.clone();
        for local in self.functions() {
            let Some(stored) = stored.get(&local.name) else { continue };
            let function = &mut content["functions"][&local.name];
            let (mut settings, mut members) = (Map::new(), Map::new());
            for (key, value) in function.as_object_mut().into_iter().flat_map(std::mem::take) {
                let is_setting = LIMITS.iter().any(|row| row.key == key)
                    || OTHER_SETTINGS.contains(&key.as_str());
                if is_setting { &mut settings } else { &mut members }.insert(key, value);
            }
            if let (Some(LocalFiles { at, .. }), Some(tree)) = (local.files, stored.tree.clone()) {
                let mount = serde_json::to_value(MountView { tree, at });
                settings.insert("files".to_owned(), mount.unwrap_or_default());
            }
            members.insert("artifact".to_owned(), stored.artifact.clone().into());
            members.insert("settings".to_owned(), settings.into());
            *function = members.into();
        }
        serde_json::from_value(content).map_err(|error| {
            Failure::failed(format!("{} is no manifest: {error}", self.path.display()))
        })
    }

    /// The failure of a function whose file or directory cannot be read.
    pub(crate) fn unreadable(&self, mistakes: &[(String, String)]) -> Failure {
        let mistakes = mistakes.iter().map(|(path, text)| Mistake {
            offset: offset_of(&self.text, path),
            path: path.clone(),
            text: text.clone(),
        });
        let mut mistakes: Vec<Mistake> = mistakes.collect();
        mistakes.sort_by_key(|mistake| mistake.offset);
        failure(&self.path, &self.text, &mistakes)
    }

    /// A mistake that the gateway has found, with its line and column.
    pub(crate) fn told(&self, path: &str, detail: &str) -> String {
        format!("{}: {path}: {detail}", at(&self.path, &self.text, offset_of(&self.text, path)))
    }
}

/// A place in a file, as compilers print it.
fn at(path: &Path, text: &str, offset: usize) -> String {
    let (line, column) = line_and_column(text, offset);
    format!("{}:{line}:{column}", path.display())
}

/// The failure of a file with mistakes.
fn failure(path: &Path, text: &str, mistakes: &[Mistake]) -> Failure {
    let mut lines = mistakes.iter().map(|mistake| {
        let place = at(path, text, mistake.offset);
        match mistake.path.as_str() {
            "" => format!("{place}: {}", mistake.text),
            path => format!("{place}: {path}: {}", mistake.text),
        }
    });
    let mut failure = Failure::failed(lines.next().unwrap_or_default());
    for line in lines.by_ref().take(PRINTED_MAX - 1) {
        failure = failure.note(line);
    }
    match lines.count() {
        0 => failure,
        more => failure.note(format!("and {more} more")),
    }
}

#[cfg(test)]
mod tests;
