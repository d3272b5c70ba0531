//! The settings of a function.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Object, ObjectBuilder, RefOr, Schema,
        schema::{AdditionalProperties, AnyOfBuilder, Type},
    },
};

use super::grants::{ConfigView, GrantsView, StoreGrantView};
use crate::{AskedLimits, DayWord, IsolationWord, MountView, RespondAsyncWord, UngrantedWord};

/// The keys of a function's settings other than the limits in [`LIMITS`](crate::LIMITS).
pub const OTHER_SETTINGS: &[&str] = &[
    "schedule",
    "isolation",
    "server_timing",
    "environment",
    "arguments",
    "files",
    "stream_body",
    "revision_urls",
    "private",
    "outbound",
    "credentials",
    "grants",
    "config",
    "config_lists_secrets",
    "ungranted",
    "snapshot",
    "respond_async",
    "on_success",
    "on_failure",
    "callback_secret",
];

/// The settings that a function's owner has chosen. The platform's default applies to a setting
/// that is left out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SettingsView {
    /// The limits among them.
    #[serde(flatten)]
    pub limits: AskedLimits,
    /// All others.
    #[serde(flatten)]
    pub others: OtherSettings,
}

/// The settings that a function's owner has chosen. The platform's default applies to a setting
/// that is left out.
#[derive(Default, Serialize, Deserialize, ToSchema)]
pub struct OtherSettings {
    /// Times of the week when more than `min_warm` instances stay warm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<WindowView>,
    /// The isolation of invocations. By default each has a fresh instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationView>,
    /// Whether responses have the header `Server-Timing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_timing: Option<bool>,
    /// Environment variables of the guest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The arguments of a CGI program, its own name first. `${SCRIPT_NAME}` stands for the mount;
    /// `${ARGS}` for the parameters of the query, without those that begin with `-`; and
    /// `${ALL_ARGS}` for all of them. By default they are the path and `${ARGS}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["python", "/app.py", "${ARGS}"]))]
    pub arguments: Vec<String>,
    /// The files that guests can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<MountView>,
    /// Whether a CGI program reads a body of unknown length while it arrives, without
    /// `CONTENT_LENGTH`. By default the body is buffered first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_body: Option<bool>,
    /// Whether each revision of the function has an address of its own, such as
    /// `/f/{name}@{revision}/`. By default it has. The setting of the active revision counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_urls: Option<bool>,
    /// Whether the function has no address of its own: then only routes, other functions and triggers
    /// reach it. By default it has. The setting of the active revision counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// Whether instances start from a snapshot that is taken at the deploy: true, false, or the
    /// name of the export to call before it is taken. With true that is `wizer-initialize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotSetting>,
    /// Hosts that the guest may call: `api.example.com`, `*.example.com`, `127.0.0.1:8000`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// Secrets that the gateway adds to the guest's requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialView>,
    /// The stores that guests may open.
    #[serde(default, skip_serializing_if = "GrantsView::is_empty")]
    pub grants: GrantsView,
    /// The values of the configuration that guests can read, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(example = json!({"greeting": "hello", "token": {"secret": "upstream-token"}}))]
    pub config: BTreeMap<String, ConfigView>,
    /// Whether a list of all values of the configuration contains secrets, too. By default a guest has to
    /// ask for each by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_lists_secrets: Option<bool>,
    /// What becomes of an artifact that imports what no setting grants: `refuse`, which is the default, or
    /// `deny`: it is deployed, and its calls are denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UngrantedWord>, example = "deny")]
    pub ungranted: Option<String>,
    /// When calls are enqueued and answered by 202: `prefer`, if they ask for it by
    /// `prefer: respond-async`, which is the default; `always`; `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RespondAsyncWord>, example = "prefer")]
    pub respond_async: Option<String>,
    /// The name of a function, or an address, that is told when an enqueued call has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "audit")]
    pub on_success: Option<String>,
    /// The name of a function, or an address, that is told when an enqueued call has failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alarm")]
    pub on_failure: Option<String>,
    /// The name of the secret that signs what an address is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "callbacks")]
    pub callback_secret: Option<String>,
}

/// Shows the names of the environment variables without their values, which may be passwords.
impl fmt::Debug for OtherSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtherSettings")
            .field("schedule", &self.schedule)
            .field("isolation", &self.isolation)
            .field("server_timing", &self.server_timing)
            .field("environment", &self.environment.keys())
            .field("files", &self.files)
            .field("snapshot", &self.snapshot)
            .field("outbound", &self.outbound)
            .field("credentials", &self.credentials)
            .field("grants", &self.grants)
            .field("config", &self.config)
            .field("config_lists_secrets", &self.config_lists_secrets)
            .field("ungranted", &self.ungranted)
            .field("respond_async", &self.respond_async)
            .field("on_success", &self.on_success)
            .field("on_failure", &self.on_failure)
            .field("callback_secret", &self.callback_secret)
            .finish()
    }
}

/// One object with both parts and no other key.
impl PartialSchema for SettingsView {
    fn schema() -> RefOr<Schema> {
        let mut schema = OtherSettings::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            AskedLimits::describe(object);
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
        schema
    }
}

impl ToSchema for SettingsView {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        OtherSettings::schemas(schemas);
    }
}

/// A merge patch on settings (RFC 7396), for the API's description: the members of the settings, each
/// of which may be null.
#[derive(Debug)]
pub struct SettingsPatch;

impl PartialSchema for SettingsPatch {
    fn schema() -> RefOr<Schema> {
        let mut settings = SettingsView::schema();
        if let RefOr::T(Schema::Object(object)) = &mut settings {
            object.description = Some("Null resets a setting to its default.".to_owned());
            object.properties.insert("isolation".to_owned(), patch_of(IsolationView::schema()));
            object.properties.insert("files".to_owned(), patch_of(MountView::schema()));
            let variable =
                ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[^\\u0000]*$"));
            let environment = patch_of_map("^[^=\\u0000]+$", variable.into());
            object.properties.insert("environment".to_owned(), environment.into());
            let stores = patch_of_map(LABEL, patch_of(StoreGrantView::schema()));
            let grants = ObjectBuilder::new()
                .property("keyvalue", nullable(stores.into()))
                .additional_properties(Some(AdditionalProperties::FreeForm(false)));
            object.properties.insert("grants".to_owned(), grants.into());
            let config = patch_of_map(CONFIG_NAME, patch_of(ConfigView::schema()));
            object.properties.insert("config".to_owned(), config.into());
            make_nullable(object);
        }
        settings
    }
}

impl ToSchema for SettingsPatch {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        SettingsView::schemas(schemas);
    }
}

/// Labels of grants.
const LABEL: &str = r"^(\*|[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})$";
/// Names in a configuration.
const CONFIG_NAME: &str = "^[A-Za-z_][A-Za-z0-9._-]{0,127}$";

/// An object with members of these names, each of which may be null.
fn patch_of_map(names: &str, member: RefOr<Schema>) -> ObjectBuilder {
    ObjectBuilder::new()
        .property_names(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some(names))))
        .additional_properties(Some(nullable(member)))
}

/// An object none of whose members must be there.
fn patch_of(mut schema: RefOr<Schema>) -> RefOr<Schema> {
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.required.clear();
        make_nullable(object);
    }
    schema
}

fn make_nullable(object: &mut Object) {
    for property in object.properties.values_mut() {
        *property = nullable(property.clone());
    }
}

fn nullable(schema: RefOr<Schema>) -> RefOr<Schema> {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    AnyOfBuilder::new().item(schema).item(null).into()
}

/// A time of the week, in UTC, when more instances stay warm. A window that ends before it begins
/// ends on the next day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowView {
    /// The days on which it begins: `mon` to `sun`. An empty list stands for every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<DayWord>, example = json!(["mon", "tue"]))]
    pub days: Vec<String>,
    /// When it begins.
    #[schema(pattern = "^([01]?[0-9]|2[0-3]):[0-5]?[0-9]$", example = "08:30")]
    pub from: String,
    /// When it ends.
    #[schema(pattern = "^([01]?[0-9]|2[0-3]):[0-5]?[0-9]$", example = "18:00")]
    pub to: String,
    /// Instances that stay warm in this time.
    pub min_warm: u64,
}

/// The isolation of a function's invocations.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IsolationView {
    /// `request`: each invocation has a fresh instance. `reuse`: an instance serves one invocation
    /// after the other, and keeps its memory between them.
    #[schema(value_type = IsolationWord, example = "reuse")]
    pub mode: String,
    /// Invocations after which an instance is dropped. The default is 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_uses: Option<u64>,
    /// Invocations that an instance may serve at the same time: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_concurrent: Option<u64>,
    /// Milliseconds without an invocation after which an instance is dropped. The default is
    /// 60,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub idle_ms: Option<u64>,
}

/// A secret that the gateway adds to requests to a host.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialView {
    /// The requests that get it, like an entry of `outbound`. Only over https, unless this begins
    /// with `http://`.
    #[schema(example = "api.example.com")]
    pub host: String,
    /// The header field that gets it.
    #[schema(example = "authorization")]
    pub header: String,
    /// The name of the secret.
    #[schema(example = "example-token")]
    pub secret: String,
    /// Text before it in the field's value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "Bearer ")]
    pub prefix: String,
}

/// A switch, or the name of an export.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SnapshotSetting {
    /// Whether to take a snapshot.
    Switch(bool),
    /// Take a snapshot after a call of this export.
    After(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_names_the_environment_without_its_values() {
        let environment = BTreeMap::from([("PASSWORD".to_owned(), "hunter2".to_owned())]);
        let shown = format!("{:?}", OtherSettings { environment, ..OtherSettings::default() });
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }
}
