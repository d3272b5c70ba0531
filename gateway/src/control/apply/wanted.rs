//! A manifest whose parts are sound by themselves.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::{
    FlowSpec, Manifest, ManifestFunction, MistakeView, QueueSpec, RouteSpec, ScheduleSpec,
};
use serde_json::{Map, Value};
use store::{Digest, ProjectItem, Release, Settings};

use crate::{
    control::apply::places::mistake,
    functions::{
        channels::{self, AskedChannel},
        deploy::{Deployer, error::DeployError, releases},
        name::{FunctionName, is_name},
    },
};

/// Things that one manifest names. Each is compared with others while nothing else can change.
const ITEMS: usize = 4_096;
/// Bytes of a description. Arbitrary, large enough.
const DESCRIPTION_BYTES: usize = 4 << 10;

/// What a project is to be.
pub(super) struct Wanted {
    pub(super) project: String,
    pub(super) prune: bool,
    pub(super) functions: BTreeMap<String, WantedFunction>,
    pub(super) routes: BTreeMap<String, RouteSpec>,
    pub(super) schedules: BTreeMap<String, ScheduleSpec>,
    pub(super) queues: BTreeMap<String, QueueSpec>,
    pub(super) flows: BTreeMap<String, FlowSpec>,
}

/// What a function is to be.
pub(super) struct WantedFunction {
    pub(super) name: FunctionName,
    pub(super) digest: Digest,
    pub(super) description: String,
    /// What the manifest says of a new revision. What it leaves out may be anything.
    pub(super) release: Release,
    pub(super) settings: Settings,
    pub(super) channels: BTreeMap<String, AskedChannel>,
}

impl Wanted {
    /// Checks each part of a manifest by itself. Routes, schedules, queues and flows are checked together with
    /// those that there are.
    pub(super) fn new(manifest: Manifest, deployer: &Deployer) -> Result<Self, Vec<MistakeView>> {
        let Manifest { project, prune, functions, routes, schedules, queues, flows, .. } = manifest;
        let mut mistakes = Vec::new();
        if !is_name(&project) {
            let why = "project: a name has 1 to 63 of a-z, 0-9 and -, begins with a letter and does not \
                       end with -";
            mistakes.push(mistake("", why));
        }
        let channels: usize = functions.values().map(|function| function.channels.len()).sum();
        let others = routes.len() + schedules.len() + queues.len() + flows.len();
        let items = functions.len() + channels + others;
        if items > ITEMS {
            let why = format!("it names {items} things; at most {ITEMS} are allowed");
            return Err(vec![mistake("", &why)]);
        }
        let mut checked = BTreeMap::new();
        for (name, function) in functions {
            match WantedFunction::new(&name, function, deployer) {
                Ok(function) => drop(checked.insert(name, function)),
                Err(wrong) => mistakes.extend(wrong),
            }
        }
        if mistakes.is_empty() {
            Ok(Self { project, prune, functions: checked, routes, schedules, queues, flows })
        } else {
            Err(mistakes)
        }
    }

    /// All things that it names.
    pub(super) fn named(&self) -> BTreeSet<ProjectItem> {
        let functions = self.functions.keys().cloned().map(ProjectItem::Function);
        let channels = self.functions.iter().flat_map(|(name, function)| {
            let names = function.channels.keys();
            names.map(|channel| ProjectItem::Channel(name.clone(), channel.clone()))
        });
        let routes = self.routes.keys().cloned().map(ProjectItem::Route);
        let schedules = self.schedules.keys().cloned().map(ProjectItem::Schedule);
        let queues = self.queues.keys().cloned().map(ProjectItem::Queue);
        let flows = self.flows.keys().cloned().map(ProjectItem::Flow);
        functions
            .chain(channels)
            .chain(routes)
            .chain(schedules)
            .chain(queues)
            .chain(flows)
            .collect()
    }

    /// The artifacts that it names.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        self.functions.values().map(|function| function.digest).collect()
    }
}

impl WantedFunction {
    fn new(
        name: &str,
        function: ManifestFunction,
        deployer: &Deployer,
    ) -> Result<Self, Vec<MistakeView>> {
        let ManifestFunction { artifact, description, version, labels, settings, channels } =
            function;
        let at = format!("functions.{name}");
        let mut mistakes = Vec::new();
        let mut wrong = |place: &str, why: &str| {
            let place = if place.is_empty() { at.clone() } else { format!("{at}.{place}") };
            mistakes.push(mistake(place, why));
        };
        let parsed = FunctionName::try_from(name).map_err(|error| wrong("", &error.to_string()));
        let digest = artifact.parse().map_err(|_| {
            wrong("artifact", "it is sha256: and 64 hexadecimal digits in lower case");
        });
        if description.len() > DESCRIPTION_BYTES {
            let why = format!("at most {DESCRIPTION_BYTES} bytes are allowed");
            wrong("description", &why);
        }
        let semver = version.as_deref().map(releases::version).transpose();
        let semver = semver.map_err(|why| wrong("version", &why));
        if let Err(why) = releases::check_labels(&labels) {
            wrong("labels", &why);
        }
        let mut asked = BTreeMap::new();
        for (channel, put) in channels {
            match channels::asked(&channel, put) {
                Ok(checked) => drop(asked.insert(channel, checked)),
                Err(why) => wrong(&format!("channels.{channel}"), &why),
            }
        }
        let read = deployer.whole_settings(settings.clone());
        if let Err(error) = &read {
            let why = error.to_string();
            let member = wrong_setting(&settings, &why).map(|name| format!("settings.{name}"));
            let place = member.as_deref().unwrap_or("settings");
            // Its name is said by the place.
            let name = place.trim_start_matches("settings.");
            let rest = why.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
            wrong(place, rest.unwrap_or(&why));
        }
        match (parsed, digest, semver, read) {
            (Ok(name), Ok(digest), Ok(semver), Ok(settings)) if mistakes.is_empty() => {
                let (release, channels) = (Release { semver, labels }, asked);
                Ok(Self { name, digest, description, release, settings, channels })
            }
            _ => Err(mistakes),
        }
    }

    /// The name and the release of a revision say no more than is known.
    pub(super) fn says_nothing_new_of(&self, known: &Release) -> bool {
        let Release { semver, labels } = &self.release;
        (semver.is_none() || *semver == known.semver)
            && (labels.is_empty() || *labels == known.labels)
    }
}

/// The setting that an error is about: its text begins with it or names it, or its value alone has the wrong
/// type.
fn wrong_setting(settings: &Map<String, Value>, why: &str) -> Option<String> {
    let words = why.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let mut words = words.filter(|word| !word.is_empty());
    let first = words.next().filter(|word| settings.contains_key(*word));
    let quoted = why.split('`').nth(1).filter(|word| settings.contains_key(*word));
    let typed = || {
        let mut all = settings.iter();
        all.find(|(name, value)| {
            let alone = Map::from_iter([((*name).clone(), (*value).clone())]);
            serde_json::from_value::<Settings>(Value::Object(alone)).is_err()
        })
        .map(|(name, _)| name.as_str())
    };
    first.or(quoted).or_else(typed).map(ToOwned::to_owned)
}

/// The mistake of a trial: its place is the artifact's, or the settings'.
pub(super) fn place_of_trial(function: &str, error: &DeployError) -> String {
    match error {
        DeployError::Settings(_)
        | DeployError::MissingGrant(_)
        | DeployError::UnknownStore { .. }
        | DeployError::Stores(_)
        | DeployError::Store(store::Error::NoSuchTree) => {
            format!("functions.{function}.settings")
        }
        _ => format!("functions.{function}.artifact"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_setting_that_an_error_is_about_is_found() {
        let Value::Object(settings) =
            json!({"cpu_ms": 5, "cpu_m": 1, "outbound": "a.example", "environment": {}})
        else {
            panic!()
        };
        for (why, name) in [
            ("cpu_ms must be from 1 to 30000", Some("cpu_ms")),
            ("environment: names and values have 9 bytes", Some("environment")),
            ("unknown setting `cpu_m`; did you mean `cpu_ms`?", Some("cpu_m")),
            ("invalid type: string \"a.example\", expected a sequence", Some("outbound")),
        ] {
            assert_eq!(wrong_setting(&settings, why).as_deref(), name, "{why}");
        }
        let sound = Map::from_iter([("cpu_ms".to_owned(), json!(5))]);
        assert_eq!(wrong_setting(&sound, "the settings have 9 bytes"), None);
    }
}
