//! Random walks through the API, compared with a model of it that fits on a page.

use std::collections::BTreeMap;

use http::Method;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{client::FullResponse, guests::guest, test_gateway::TestGateway};

const NAMES: [&str; 3] = ["a", "b-1", "c"];
/// Guests with different responses. The last one responds with its environment.
const GUESTS: [&str; 3] = ["c-hello", "hello-cgi", "t-env"];
/// The number of steps of one walk.
const STEPS: usize = 25;

const SECRETS: [&str; 2] = ["key-1", "key-2"];
/// The idempotency keys.
const KEYS: [&str; 2] = ["one", "two"];
const SCOPES: [&str; 2] = ["read", "deploy"];

/// An action of an owner.
#[derive(Clone, Debug)]
enum Action {
    Deploy { name: usize, guest: usize, change: Option<EnvironmentPatch>, key: Option<usize> },
    Set { name: usize, change: EnvironmentPatch },
    Describe { name: usize, description: String },
    Activate { name: usize, revision: u32 },
    Delete { name: usize },
    PutSecret { secret: usize, hosts: Vec<String> },
    DeleteSecret { secret: usize },
    CreateToken { scope: usize },
    RevokeToken { token: prop::sample::Index },
    UseToken { token: prop::sample::Index, writes: bool },
}

/// A merge patch on the environment: each variable with its new value, or null to remove it.
type EnvironmentPatch = BTreeMap<String, Option<String>>;
type Variables = BTreeMap<String, String>;

fn action() -> impl Strategy<Value = Action> {
    let change = || prop::collection::btree_map("[AB]", prop::option::weighted(0.7, "[xy]"), 0..3);
    let name = 0..NAMES.len();
    let key = prop::option::weighted(0.3, 0..KEYS.len());
    let deployed = (name.clone(), 0..GUESTS.len(), prop::option::of(change()), key);
    let secret = 0..SECRETS.len();
    let hosts = prop::collection::vec(Just("https://api.test".to_owned()), 1..3);
    let used = (any::<prop::sample::Index>(), any::<bool>());
    let described = (name.clone(), "[a-z]{0,3}");
    prop_oneof![
        6 => deployed
            .prop_map(|(name, guest, change, key)| Action::Deploy { name, guest, change, key }),
        3 => (name.clone(), change()).prop_map(|(name, change)| Action::Set { name, change }),
        1 => described.prop_map(|(name, description)| Action::Describe { name, description }),
        3 => (name.clone(), 0..6_u32).prop_map(|(name, revision)| Action::Activate { name, revision }),
        1 => name.prop_map(|name| Action::Delete { name }),
        1 => (secret.clone(), hosts).prop_map(|(secret, hosts)| Action::PutSecret { secret, hosts }),
        1 => secret.prop_map(|secret| Action::DeleteSecret { secret }),
        1 => (0..SCOPES.len()).prop_map(|scope| Action::CreateToken { scope }),
        1 => any::<prop::sample::Index>().prop_map(|token| Action::RevokeToken { token }),
        2 => used.prop_map(|(token, writes)| Action::UseToken { token, writes }),
    ]
}

/// The model of a function.
#[derive(Clone, Debug, Default)]
struct ModelFunction {
    /// Guest and environment of each revision, from number 1.
    revisions: Vec<(usize, Variables)>,
    active: usize,
    description: String,
}

impl ModelFunction {
    fn active(&self) -> &(usize, Variables) {
        &self.revisions[self.active - 1]
    }

    /// Publishes a revision unless it equals the active one. Returns whether it is new.
    fn publish(&mut self, guest: usize, environment: Variables) -> bool {
        let new = self.active == 0 || *self.active() != (guest, environment.clone());
        if new {
            self.revisions.push((guest, environment));
            self.active = self.revisions.len();
        }
        new
    }

    fn response_text(&self) -> String {
        let (guest, environment) = self.active();
        match GUESTS[*guest] {
            "c-hello" => "hello from c\n".to_owned(),
            "hello-cgi" => "hello from rust\n".to_owned(),
            _ => environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        }
    }
}

fn changed(mut environment: Variables, change: EnvironmentPatch) -> Variables {
    for (name, value) in change {
        match value {
            Some(value) => environment.insert(name, value),
            None => environment.remove(&name),
        };
    }
    environment
}

/// An upload with an idempotency key, and the status of its response.
#[derive(Clone, Debug)]
struct KeyedUpload {
    upload: (usize, usize, Option<EnvironmentPatch>),
    status: u16,
}

#[derive(Debug)]
struct ModelToken {
    text: String,
    id: String,
    scope: usize,
    revoked: bool,
}

/// The expected state of the gateway.
#[derive(Debug, Default)]
struct Model {
    functions: BTreeMap<usize, ModelFunction>,
    /// The allowed hosts of each secret.
    secrets: BTreeMap<usize, Vec<String>>,
    /// The tokens that this walk has created.
    tokens: Vec<ModelToken>,
    keys: BTreeMap<usize, KeyedUpload>,
}

impl Model {
    fn token(&self, which: &prop::sample::Index) -> Option<usize> {
        (!self.tokens.is_empty()).then(|| which.index(self.tokens.len()))
    }

    /// Applies an upload and returns its expected status.
    fn deploy(&mut self, name: usize, guest: usize, change: Option<EnvironmentPatch>) -> u16 {
        let function = self.functions.entry(name).or_default();
        let before =
            if function.active == 0 { Variables::new() } else { function.active().1.clone() };
        let new = function.publish(guest, changed(before, change.unwrap_or_default()));
        if new { 201 } else { 200 }
    }
}

/// Applies an action to the model. Returns the expected status and problem.
fn expected(model: &mut Model, action: &Action) -> (u16, Option<&'static str>) {
    const NOT_FOUND: (u16, Option<&str>) = (404, Some("function-not-found"));
    match action.clone() {
        Action::Deploy { name, guest, change, key } => {
            let upload = (name, guest, change.clone());
            match key.and_then(|key| model.keys.get(&key)) {
                Some(before) if before.upload == upload => return (before.status, None),
                Some(_) => return (422, Some("idempotency-key-reused")),
                None => {}
            }
            let status = model.deploy(name, guest, change);
            if let Some(key) = key {
                model.keys.insert(key, KeyedUpload { upload, status });
            }
            (status, None)
        }
        Action::Set { name, change } => {
            let Some(function) = model.functions.get_mut(&name) else { return NOT_FOUND };
            let (guest, before) = function.active().clone();
            function.publish(guest, changed(before, change));
            (200, None)
        }
        Action::Describe { name, description } => {
            let Some(function) = model.functions.get_mut(&name) else { return NOT_FOUND };
            function.description = description;
            (200, None)
        }
        Action::Activate { name, revision } => {
            let Some(function) = model.functions.get_mut(&name) else { return NOT_FOUND };
            let revision = revision as usize;
            if !(1..=function.revisions.len()).contains(&revision) {
                return (404, Some("revision-not-found"));
            }
            function.active = revision;
            (200, None)
        }
        Action::Delete { name } => {
            // Deleting a function forgets the responses about it.
            model.keys.retain(|_, answered| answered.upload.0 != name);
            match model.functions.remove(&name) {
                Some(_) => (204, None),
                None => NOT_FOUND,
            }
        }
        Action::PutSecret { secret, hosts } => match model.secrets.insert(secret, hosts) {
            Some(_) => (200, None),
            None => (201, None),
        },
        Action::DeleteSecret { secret } => match model.secrets.remove(&secret) {
            Some(_) => (204, None),
            None => (404, Some("secret-not-found")),
        },
        Action::CreateToken { .. } => (201, None),
        Action::RevokeToken { token } => {
            let Some(token) = model.token(&token) else { return (404, Some("token-not-found")) };
            model.tokens[token].revoked = true;
            (204, None)
        }
        Action::UseToken { token, writes } => {
            let token = model.token(&token).map(|token| &model.tokens[token]);
            match token {
                Some(token) if !token.revoked => match (SCOPES[token.scope], writes) {
                    (_, false) => (200, None),
                    ("read", true) => (403, Some("forbidden")),
                    _ => NOT_FOUND,
                },
                _ => (401, Some("unauthorized")),
            }
        }
    }
}

/// Applies an action to the gateway.
async fn apply(gateway: &TestGateway, model: &Model, action: &Action) -> FullResponse {
    let token = |which: &prop::sample::Index| model.token(which).map(|token| &model.tokens[token]);
    match action {
        Action::Deploy { name, guest: bytes, change, key } => {
            let mut put = gateway.put(NAMES[*name], guest(GUESTS[*bytes]));
            if let Some(change) = change {
                put = put.header("mayfly-settings", &json!({"environment": change}).to_string());
            }
            if let Some(key) = key {
                put = put.header("idempotency-key", KEYS[*key]);
            }
            put.send().await
        }
        Action::Set { name, change } => {
            let patch = json!({"settings": {"environment": change}});
            gateway.patch(NAMES[*name], &patch).await
        }
        Action::Describe { name, description } => {
            gateway.patch(NAMES[*name], &json!({"description": description})).await
        }
        Action::Activate { name, revision } => {
            let target = format!("/v1/functions/{}/revisions/{revision}/activate", NAMES[*name]);
            gateway.control(Method::POST, &target).send().await
        }
        Action::Delete { name } => {
            let target = format!("/v1/functions/{}", NAMES[*name]);
            gateway.control(Method::DELETE, &target).send().await
        }
        Action::PutSecret { secret, hosts } => {
            let put = gateway.control(Method::PUT, &format!("/v1/secrets/{}", SECRETS[*secret]));
            put.json(&json!({"value": "hunter2-hunter2", "hosts": hosts})).send().await
        }
        Action::DeleteSecret { secret } => {
            let target = format!("/v1/secrets/{}", SECRETS[*secret]);
            gateway.control(Method::DELETE, &target).send().await
        }
        Action::CreateToken { scope } => {
            let token = json!({"name": "walker", "scopes": [SCOPES[*scope]]});
            gateway.control(Method::POST, "/v1/tokens").json(&token).send().await
        }
        Action::RevokeToken { token: which } => {
            let id = token(which).map_or("0123456789abcdef", |token| token.id.as_str());
            gateway.control(Method::DELETE, &format!("/v1/tokens/{id}")).send().await
        }
        Action::UseToken { token: which, writes } => {
            let text = token(which).map_or("mfy_0123456789abcdef_0", |token| token.text.as_str());
            let call = match writes {
                true => gateway.anonymous(Method::DELETE, "/v1/functions/missing"),
                false => gateway.anonymous(Method::GET, "/v1/functions"),
            };
            call.header("authorization", &format!("Bearer {text}")).send().await
        }
    }
}

/// Asserts that the gateway shows and serves exactly what the model holds.
async fn agrees(gateway: &TestGateway, model: &Model) {
    let secrets = gateway.api("/v1/secrets").await.json()["secrets"].as_array().unwrap().clone();
    let secrets = secrets.iter().map(|secret| (&secret["name"], &secret["hosts"]));
    let expected = model.secrets.iter().map(|(name, hosts)| (json!(SECRETS[*name]), json!(hosts)));
    let expected: Vec<_> = expected.collect();
    assert!(secrets.eq(expected.iter().map(|(name, hosts)| (name, hosts))), "{expected:?}");
    let list = gateway.api("/v1/functions").await.json().clone();
    let listed = list["functions"].as_array().unwrap();
    let names: Vec<&Value> = listed.iter().map(|view| &view["name"]).collect();
    assert_eq!(names, model.functions.keys().map(|name| NAMES[*name]).collect::<Vec<_>>());
    for (index, name) in NAMES.iter().enumerate() {
        let answer = gateway.get(&format!("/f/{name}/")).await;
        let shown = gateway.show(name).await;
        let revisions = gateway.api(&format!("/v1/functions/{name}/revisions")).await;
        let Some(function) = model.functions.get(&index) else {
            assert_eq!(answer.problem(), (404, "function-not-found"));
            assert_eq!(shown.problem(), (404, "function-not-found"));
            assert_eq!(revisions.problem(), (404, "function-not-found"));
            continue;
        };
        assert_eq!(answer.plain(), (200, function.response_text().as_str()));
        let shown = shown.json();
        assert_eq!(
            (&shown["revision"], &shown["description"]),
            (&json!(function.active), &json!(function.description))
        );
        let revisions = revisions.json()["revisions"].as_array().unwrap().clone();
        assert_eq!(revisions.len(), function.revisions.len());
        for (view, number) in revisions.iter().zip((1..=function.revisions.len()).rev()) {
            let (_, environment) = &function.revisions[number - 1];
            assert_eq!(view["revision"], number);
            assert_eq!(view["active"], number == function.active);
            let shown = view["settings"].get("environment").cloned().unwrap_or_else(|| json!({}));
            assert_eq!(shown, json!(environment));
        }
    }
}

/// Case M03.
#[test]
fn the_api_behaves_like_its_model() {
    // A short run by default; ten thousand walks with `MAYFLY_LONG=1`.
    let cases = if std::env::var_os("MAYFLY_LONG").is_some() { 10_000 } else { 10 };
    let runtime = Runtime::new().unwrap();
    // The walk uses revoked tokens more often than the throttling of guesses allows.
    let gateway = runtime.block_on(TestGateway::with(&[
        "server.auth_failures_per_minute=0",
        "quotas.changes_per_minute=1000000",
    ]));
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let walks = prop::collection::vec(action(), STEPS);
    let walked = TestRunner::new(config).run(&walks, |walk| {
        runtime.block_on(async {
            let mut model = Model::default();
            for name in 0..NAMES.len() {
                apply(&gateway, &model, &Action::Delete { name }).await;
            }
            for secret in 0..SECRETS.len() {
                apply(&gateway, &model, &Action::DeleteSecret { secret }).await;
            }
            for action in &walk {
                let (status, problem) = expected(&mut model, action);
                let answer = apply(&gateway, &model, action).await;
                assert_eq!(answer.status(), status, "{action:?}: {answer:?}");
                if let Action::CreateToken { scope } = action {
                    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
                    let (text, id) = (text("token"), text("id"));
                    model.tokens.push(ModelToken { text, id, scope: *scope, revoked: false });
                }
                if let Some(slug) = problem {
                    assert_eq!(answer.problem(), (status, slug), "{action:?}");
                }
                agrees(&gateway, &model).await;
            }
        });
        Ok(())
    });
    if let Err(error) = walked {
        panic!("{error}");
    }
}
