//! `/v1/files`: the trees of files that functions are given.

use axum::{
    Extension, Json,
    extract::{Query, Request, State, rejection::QueryRejection},
};
use gateway_api::{TreeEntryView, TreePageView, TreeView};
use http::{HeaderMap, StatusCode, header};
use runtime_pool::ListedEntry;
use store::{Digest, TreeRecord};
use utoipa::IntoParams;

use crate::{
    control::{
        extract::{Binary, DigestPath, PathParams, digest},
        page::{Page, next_cursor},
        state::ControlState,
    },
    functions::{
        deploy::upload::Actor,
        files::{ArchiveUpload, coding::ArchiveCoding},
    },
    problem::Problem,
    request::limited_body::declared_length,
    telemetry::clock::rfc3339,
};

/// The media types of an archive. The last of these is what curl sends by default.
const ARCHIVE_TYPES: [&str; 4] = [
    "application/x-tar",
    "application/tar",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
];

/// The coding of an archive, for the API's description.
#[expect(dead_code, reason = "the handler reads it itself, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct ArchiveFields {
    /// `gzip` or `zstd`. By default the archive has no coding.
    #[param(
        rename = "content-encoding",
        value_type = String,
        required = false,
        pattern = "^(gzip|zstd|identity)$"
    )]
    content_encoding: (),
}

/// Stores files for functions.
///
/// The body is a tar archive of files and directories. Its tree can then be named by the setting
/// `files` of a function. A tree that no function names is removed after about a day.
#[utoipa::path(
    post, path = "/v1/files", tag = "files",
    operation_id = "storeFiles",
    params(ArchiveFields),
    request_body(content = Binary, content_type = "application/x-tar"),
    responses(
        (status = 201, description = "A new tree is stored", body = TreeView),
        (status = 200, description = "The tree was stored already", body = TreeView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A quota is used up", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The files are too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not sent as an archive", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The archive holds something else than files with plain names", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many changes within a minute", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn store(
    State(state): State<ControlState>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, Json<TreeView>), Problem> {
    let stored = async {
        let coding = coding(request.headers())?;
        state.deployer.admit(&actor.token)?;
        let archive = ArchiveUpload {
            tenant: state.tenant.clone(),
            coding,
            length: declared_length(request.headers()),
            quotas: state.deployer.quotas(),
        };
        let body = request.into_body().into_data_stream();
        // Boxed: the future is large, and uploads are rare.
        Box::pin(state.files.put(archive, body)).await.map_err(Problem::from)
    };
    match stored.await {
        Ok((tree, is_new)) => {
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(shown(&tree))))
        }
        Err(problem) => {
            state.deployer.count_refused(problem.slug());
            Err(problem)
        }
    }
}

/// Shows what is in a tree of files.
#[utoipa::path(
    get, path = "/v1/files/{digest}", tag = "files",
    operation_id = "showFiles",
    params(DigestPath, Page),
    responses(
        (status = 200, description = "The tree, and a page of its files", body = TreePageView),
        (status = 400, description = "The digest or the query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tree", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams(named): PathParams<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<TreePageView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let digest = digest(&named)?;
    let Some((tree, list)) = state.files.get(&state.tenant, &digest).await? else {
        return Err(Problem::files_not_found(&digest));
    };
    let limit = page.limit();
    let after = |path: &str| page.cursor.as_deref().is_none_or(|cursor| path > cursor);
    let entries = list.entries().filter(|(path, _)| after(path)).take(limit as usize);
    let entries: Vec<TreeEntryView> = entries.map(|(path, entry)| listed(path, entry)).collect();
    let next_cursor = next_cursor(&entries, limit, |entry| entry.path.clone());
    Ok(Json(TreePageView { tree: shown(&tree), entries, next_cursor }))
}

fn shown(tree: &TreeRecord) -> TreeView {
    TreeView {
        digest: format!("sha256:{}", tree.digest),
        files: tree.files,
        bytes: tree.bytes,
        created_at: rfc3339(tree.created_ms),
    }
}

fn listed(path: &str, entry: ListedEntry) -> TreeEntryView {
    let (digest, bytes) = match entry {
        ListedEntry::File { digest, bytes } => {
            (Some(format!("sha256:{}", Digest::from_bytes(digest))), Some(bytes))
        }
        ListedEntry::Directory => (None, None),
    };
    TreeEntryView { path: path.to_owned(), digest, bytes }
}

/// The coding of an archive that is sent with these fields.
fn coding(headers: &HeaderMap) -> Result<ArchiveCoding, Problem> {
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !ARCHIVE_TYPES.iter().any(|accepted| accepted.eq_ignore_ascii_case(essence)) {
            return Err(Problem::not_an_archive());
        }
    }
    let mut coding = ArchiveCoding::Identity;
    for codings in headers.get_all(header::CONTENT_ENCODING) {
        let codings = codings.to_str().map_err(|_| Problem::archive_coding())?;
        for name in codings.split(',').map(str::trim) {
            let named = match &*name.to_ascii_lowercase() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => ArchiveCoding::Gzip,
                "zstd" => ArchiveCoding::Zstd,
                _ => return Err(Problem::archive_coding()),
            };
            // One inside another would multiply what a small body can become.
            if coding != ArchiveCoding::Identity {
                return Err(Problem::archive_coding());
            }
            coding = named;
        }
    }
    Ok(coding)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_archive_has_one_coding_and_looks_like_one_or_like_nothing_in_particular() {
        let of = |name: header::HeaderName, values: &[&'static str]| {
            let field = |value: &&'static str| (name.clone(), HeaderValue::from_static(value));
            let fields = values.iter().map(field);
            coding(&HeaderMap::from_iter(fields)).map_err(|problem| problem.slug())
        };
        let coded = |values: &[&'static str]| of(header::CONTENT_ENCODING, values);
        assert_eq!(coded(&[]), Ok(ArchiveCoding::Identity));
        assert_eq!(coded(&["", "identity"]), Ok(ArchiveCoding::Identity));
        assert_eq!(coded(&["GZip"]), Ok(ArchiveCoding::Gzip));
        assert_eq!(coded(&["identity, zstd"]), Ok(ArchiveCoding::Zstd));
        for refused in [&["br"][..], &["gzip, gzip"], &["gzip", "zstd"], &["deflate"]] {
            assert_eq!(coded(refused), Err("unsupported-content-encoding"), "{refused:?}");
        }
        let typed = |value| of(header::CONTENT_TYPE, &[value]);
        assert!(
            typed("application/X-TAR; x=y").is_ok() && typed("application/octet-stream").is_ok()
        );
        assert_eq!(typed("application/gzip"), Err("unsupported-media-type"));
    }
}
