//! `mayfly channel`: named pointers to revisions of a function.

use std::process::ExitCode;

use gateway_api::{
    CanaryView, ChannelView, ChannelsView, PutCanary, PutChannel, ShadowView, WeightView,
};

use crate::cli::{
    client::{Client, Remote, transport::escape},
    commands::patch::function_patch,
    failure::Failure,
    output::{Output, print, print_line, table},
    printable::printable,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ChannelCommand {
    /// Make a channel or set it, e.g. `channel set greet prod --range '~1.2'`
    Set(SetChannel),
    /// List the channels of a function
    List(ListChannels),
    /// Delete a channel; `default` follows each deploy again
    Delete(DeleteChannel),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetChannel {
    /// Name of the function
    name: String,
    /// Name of the channel; `default` is what calls of the function itself reach
    channel: String,
    /// Point to this revision
    #[arg(
        long,
        value_name = "REVISION",
        required_unless_present = "range",
        conflicts_with = "range"
    )]
    revision: Option<u32>,
    /// Point to the newest version in this range, e.g. '~1.2' or '>=1.3.0-0'
    #[arg(long, value_name = "RANGE")]
    range: Option<String>,
    /// Send a share of the requests to another revision, in percent, e.g. 8=10; may be repeated
    #[arg(long = "weight", value_name = "REVISION=PERCENT", value_parser = weight)]
    weights: Vec<WeightView>,
    /// By what a caller stays with a revision: none, client (its address), header:NAME or
    /// cookie:NAME
    #[arg(long, value_name = "BY")]
    sticky: Option<String>,
    /// Set a limit, environment.NAME or credentials for calls of this channel only, e.g. cpu_ms=500;
    /// `KEY=` takes the revision's away; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Let testers name one of the channel's revisions in this header field, e.g. x-revision
    #[arg(long, value_name = "HEADER")]
    tester_header: Option<String>,
    /// Copy a share of the requests to another revision, in percent, and drop its answers, e.g. 8=10
    #[arg(long, value_name = "REVISION=PERCENT", value_parser = weight)]
    shadow: Option<WeightView>,
    /// Copy also requests that may change something
    #[arg(long, requires = "shadow")]
    shadow_all_methods: bool,
    /// Begin an automatic canary: this revision gets a growing share, and replaces the other one unless
    /// it is worse
    #[arg(long, value_name = "REVISION", conflicts_with = "range")]
    canary: Option<u32>,
    /// The canary's shares in percent; by default 5,25,100
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', requires = "canary")]
    canary_steps: Vec<u8>,
    /// Requests of each revision before a step is judged; by default 200
    #[arg(long, value_name = "REQUESTS", requires = "canary")]
    canary_requests: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListChannels {
    /// Name of the function
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteChannel {
    /// Name of the function
    name: String,
    /// Name of the channel
    channel: String,
    #[command(flatten)]
    remote: Remote,
}

impl ChannelCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Delete(command) => command.run().await,
        }
    }
}

impl SetChannel {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let Self { name, channel, revision, range, weights, .. } = self;
        let Self { sticky, settings, tester_header, remote, .. } = self;
        let methods = if self.shadow_all_methods { "all" } else { "safe" };
        let shadow = self.shadow.map(|WeightView { revision, percent }| ShadowView {
            revision,
            percent,
            methods: methods.to_owned(),
        });
        let canary = self.canary.map(|revision| PutCanary {
            revision,
            steps: self.canary_steps,
            requests: self.canary_requests,
        });
        let settings = function_patch(&settings)?;
        if settings.description.is_some() {
            return Err(Failure::usage("a channel has no description"));
        }
        let settings = settings.settings;
        let put = PutChannel {
            revision,
            range,
            weights,
            sticky,
            settings,
            tester_header,
            shadow,
            canary,
        };
        let answer = client.put_json(&path(&name, Some(&channel)), &put).await?;
        match remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                let view: ChannelView = answer.parse()?;
                let line = format!("{name} {} is at {}", view.name, shares(&view));
                print_line(&printable(&line))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ListChannels {
    async fn run(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.get(&path(&self.name, None)).await?;
        if self.remote.output == Output::Json {
            answer.print_json()?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = answer.parse::<ChannelsView>()?.channels.into_iter().map(|view| {
            let follows = view.range.clone().unwrap_or_else(|| view.follows.clone());
            let shares = shares(&view);
            let canary = view.canary.as_ref().map(progress).unwrap_or_default();
            vec![view.name, follows, shares, view.sticky, canary, view.url]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        print(
            table(&["CHANNEL", "FOLLOWS", "REVISION", "STICKY", "CANARY", "URL"], &rows).as_bytes(),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

impl DeleteChannel {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let answer = client.delete(&path(&self.name, Some(&self.channel))).await?;
        answer.done(self.remote.output, "deleted", &self.channel)
    }
}

/// `7`, or `7 (90 %), 8 (10 %)`.
fn shares(view: &ChannelView) -> String {
    if view.weights.is_empty() {
        return view.revision.to_string();
    }
    let taken: u32 = view.weights.iter().map(|weight| u32::from(weight.percent)).sum();
    let others = view.weights.iter().map(|weight| (weight.revision, u32::from(weight.percent)));
    let all = [(view.revision, 100u32.saturating_sub(taken))].into_iter().chain(others);
    let texts: Vec<_> =
        all.map(|(revision, percent)| format!("{revision} ({percent} %)")).collect();
    texts.join(", ")
}

/// `step 1 of 3, 120 of 200 requests`.
fn progress(canary: &CanaryView) -> String {
    let CanaryView { step, steps, requests, old_requests, new_requests, .. } = canary;
    let had = old_requests.min(new_requests).min(requests);
    format!("step {step} of {}, {had} of {requests} requests", steps.len())
}

fn path(name: &str, channel: Option<&str>) -> String {
    let all = format!("/v1/functions/{}/channels", escape(name));
    match channel {
        Some(channel) => format!("{all}/{}", escape(channel)),
        None => all,
    }
}

fn weight(text: &str) -> Result<WeightView, String> {
    let expected = || "expected REVISION=PERCENT, e.g. 8=10".to_owned();
    let (revision, percent) = text.split_once('=').ok_or_else(expected)?;
    Ok(WeightView {
        revision: revision.parse().map_err(|_| expected())?,
        percent: percent.parse().map_err(|_| expected())?,
    })
}
