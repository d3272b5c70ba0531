//! What the settings of a function give to its guests: environment, arguments, hosts, credentials,
//! stores, configuration.
//!
//! Owners may grant much, and all functions are in memory, called or not. So the catalog keeps this
//! part as compact text, and parses it when the function is loaded.

use std::sync::Arc;

use runtime_pool::{
    AllowedAccess, ConfigValue, Credential, FunctionSpec, Grant, Grants, NotACredential, StoreGrant,
};
use store::{ConfigSetting, CredentialSetting, Settings, StoreAccess, Ungranted};

/// Grants as text; empty for a function without any.
#[derive(Debug)]
pub(crate) struct CompactGrants(Box<str>);

impl CompactGrants {
    pub(crate) fn of(settings: &Settings) -> Self {
        let granted = Settings {
            environment: settings.environment.clone(),
            arguments: settings.arguments.clone(),
            outbound: settings.outbound.clone(),
            credentials: settings.credentials.clone(),
            grants: settings.grants.clone(),
            config: settings.config.clone(),
            config_lists_secrets: settings.config_lists_secrets,
            ungranted: settings.ungranted,
            ..Settings::default()
        };
        if granted == Settings::default() {
            return Self("".into());
        }
        Self(serde_json::to_string(&granted).expect("settings are plain values").into())
    }

    /// The same specification with the grants.
    pub(crate) fn add_to(&self, spec: FunctionSpec) -> FunctionSpec {
        match self.settings() {
            Some(granted) => add_grants(&granted, spec),
            None => spec,
        }
    }

    /// The names of the stores that guests may open.
    pub(crate) fn stores(&self) -> Vec<String> {
        let granted = self.settings().unwrap_or_default();
        granted.granted_stores().map(str::to_owned).collect()
    }

    /// The part of the settings that has the grants, if there are any.
    fn settings(&self) -> Option<Settings> {
        let granted = || serde_json::from_str(&self.0).expect("the text was made from settings");
        (!self.0.is_empty()).then(granted)
    }
}

/// The same specification with the grants of `settings`.
pub(crate) fn add_grants(settings: &Settings, spec: FunctionSpec) -> FunctionSpec {
    // Hosts and credentials are validated at publish. An entry that this version cannot parse
    // permits nothing.
    let outbound = settings.outbound.iter().filter_map(|host| host.parse::<Grant>().ok());
    let credentials = settings.credentials.iter().filter_map(|asked| credential(asked).ok());
    FunctionSpec {
        environment: settings.environment.clone().into_iter().collect(),
        arguments: settings.arguments.clone(),
        outbound: outbound.collect(),
        credentials: credentials.collect(),
        capabilities: capabilities(settings).map(Arc::new),
        ..spec
    }
}

/// The stores and the configuration of guests. `None` if they get neither.
fn capabilities(settings: &Settings) -> Option<Grants> {
    let Settings { grants, config, config_lists_secrets, ungranted, .. } = settings;
    let key_value = grants.keyvalue.iter().map(|(label, grant)| StoreGrant {
        label: label.as_str().into(),
        store: grant.store().into(),
        access: match grant.access() {
            StoreAccess::Read => AllowedAccess::Read,
            StoreAccess::Write => AllowedAccess::Write,
            StoreAccess::ReadWrite => AllowedAccess::ReadWrite,
        },
        prefix: grant.prefix().into(),
    });
    let config = config.iter().map(|(name, value)| {
        let value = match value {
            ConfigSetting::Text(text) => ConfigValue::Plain(text.as_str().into()),
            ConfigSetting::Secret(secret) => ConfigValue::Secret {
                name: secret.secret.as_str().into(),
                environment: secret.environment.unwrap_or_default(),
            },
        };
        (name.as_str().into(), value)
    });
    let grants = Grants {
        key_value: key_value.collect(),
        config: config.collect(),
        config_lists_secrets: config_lists_secrets.unwrap_or_default(),
    };
    // What is denied is counted, too.
    let counts = *ungranted == Some(Ungranted::Deny);
    (counts || grants != Grants::default()).then_some(grants)
}

/// The credential that the gateway adds to requests of a function.
pub(crate) fn credential(setting: &CredentialSetting) -> Result<Credential, NotACredential> {
    Credential::new(&setting.host, &setting.header, &setting.secret, &setting.prefix)
}

#[cfg(test)]
mod tests {
    use store::Store;

    use super::*;
    use crate::{
        config::Config,
        functions::{catalog::Catalog, qualified_name::QualifiedName},
    };

    #[tokio::test]
    async fn grants_are_the_same_after_they_were_text() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&store::StoreConfig::new(dir.path())).await.unwrap();
        let catalog = Catalog::load(&store, &Config::default()).await.unwrap();
        let digest = store::Digest::of(b"");
        let name = "f".try_into().unwrap();
        let function = QualifiedName { tenant: store::Tenant::default(), name };
        let spec =
            |settings: &Settings| catalog.spec(function.borrowed(), "f".into(), digest, settings);
        let credential = CredentialSetting {
            host: "https://api.example.com".to_owned(),
            header: "authorization".to_owned(),
            secret: "key".to_owned(),
            prefix: "Bearer ".to_owned(),
        };
        let granted = Settings {
            environment: [("A".to_owned(), "\"\u{e9}\n".to_owned())].into(),
            arguments: vec!["-a".to_owned()],
            outbound: vec!["GET|HEAD *.example.com:8443".to_owned(), "a.example".to_owned()],
            credentials: vec![credential],
            grants: serde_json::from_str(
                r#"{"keyvalue": {"a": "s", "*": {"store": "t", "access": "read", "prefix": "p/"}}}"#,
            )
            .unwrap(),
            config: serde_json::from_str(
                r#"{"a": "b", "c": {"secret": "d", "environment": true}}"#,
            )
            .unwrap(),
            config_lists_secrets: Some(true),
            ..Settings::default()
        };
        for settings in [Settings::default(), granted] {
            let (direct, none) = (spec(&settings), spec(&Settings::default()));
            let later = CompactGrants::of(&settings).add_to(none);
            assert_eq!(later.environment, direct.environment);
            assert_eq!(later.arguments, direct.arguments);
            assert_eq!(later.outbound, direct.outbound);
            assert_eq!(later.capabilities, direct.capabilities);
            assert_eq!(later.capabilities.is_some(), !settings.config.is_empty());
            assert_eq!(later.credentials.len(), direct.credentials.len());
            assert_eq!(later.credentials.len(), settings.credentials.len());
        }
    }
}
