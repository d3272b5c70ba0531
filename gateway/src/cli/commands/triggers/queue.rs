//! `mayfly queue`: messages that wait until a function has taken them.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway_api::{
    ChangeQueue, ChangedInvocationsView, DepthView, MessageView, MessagesView, PublishMessages,
    PublishedBody, PublishedView, QueueSpec, QueueView, QueuesView,
};

use crate::cli::{
    client::{Answer, Client, Remote, body::read_argument, transport::escape},
    commands::{functions::PAGE, triggers::read_document},
    failure::Failure,
    output::{Output, print_line},
    printable::printable,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum QueueCommand {
    /// Set a queue, e.g. `queue set orders --function shop --batch-size 10`
    Set(Box<SetQueue>),
    /// List the queues with what is in them
    List(ListQueues),
    /// Show a queue with what is in it
    Show(OneQueue),
    /// Delete a queue
    Delete(DeleteQueue),
    /// Pause a queue: nothing is delivered until it is resumed
    Pause(OneQueue),
    /// Resume a queue
    Resume(OneQueue),
    /// Publish messages, e.g. `queue send orders '{"order":17}'`
    Send(SendMessages),
    /// Show messages without taking them, the oldest first
    Peek(PeekMessages),
    /// Remove messages, by default those that wait
    Purge(PurgeMessages),
    /// Make dead messages due again
    Redrive(OneQueue),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetQueue {
    /// Name of the queue
    name: String,
    /// A file with the whole queue as JSON, in place of all other options
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "function", "channel", "path", "batch_size", "concurrency", "visibility_ms", "attempts",
            "max_age_s", "dead_letter_queue", "dead_retention_s", "paused",
        ]
    )]
    file: Option<PathBuf>,
    /// The function that gets the messages; without it they wait
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// The channel of the function
    #[arg(long, value_name = "CHANNEL", requires = "function")]
    channel: Option<String>,
    /// The path of the request that the function gets
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// The most messages of one request; with more than 1 the function gets a JSON document of them
    #[arg(long, value_name = "NUMBER", default_value_t = QueueSpec::default().batch_size)]
    batch_size: u32,
    /// The most requests at once
    #[arg(long, value_name = "NUMBER", default_value_t = QueueSpec::default().concurrency)]
    concurrency: u32,
    /// How long the function has for a request, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = QueueSpec::default().visibility_ms)]
    visibility_ms: u64,
    /// Attempts for each message
    #[arg(long, value_name = "NUMBER", default_value_t = QueueSpec::default().attempts)]
    attempts: u32,
    /// Seconds after which a message that was not delivered is dead
    #[arg(long, value_name = "SECONDS", default_value_t = QueueSpec::default().max_age_s)]
    max_age_s: u32,
    /// The queue that gets dead messages
    #[arg(long, value_name = "QUEUE")]
    dead_letter_queue: Option<String>,
    /// Seconds for which a dead message is kept
    #[arg(long, value_name = "SECONDS", default_value_t = QueueSpec::default().dead_retention_s)]
    dead_retention_s: u32,
    /// Nothing is delivered until it is resumed
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListQueues {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneQueue {
    /// Name of the queue
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteQueue {
    /// Name of the queue
    name: String,
    /// Delete messages that are not done with it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SendMessages {
    /// Name of the queue
    name: String,
    /// The bodies, one for each message: the text itself, @FILE, or - for standard input
    #[arg(value_name = "DATA", required = true)]
    bodies: Vec<String>,
    /// What the bodies are, e.g. application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// An attribute of the messages; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Seconds before which they are not delivered
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    delay_s: u32,
    /// A name for the message, so that it can be sent again; only with one message
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PeekMessages {
    /// Name of the queue
    name: String,
    /// Only messages in this state: due, running, succeeded, dead or cancelled
    #[arg(long, value_name = "STATE", default_value = "due")]
    state: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PurgeMessages {
    /// Name of the queue
    name: String,
    /// Messages in this state
    #[arg(long, value_name = "STATE", default_value = "due")]
    state: String,
    #[command(flatten)]
    remote: Remote,
}

impl QueueCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.show().await,
            Self::Delete(command) => command.run().await,
            Self::Pause(command) => command.pause(true).await,
            Self::Resume(command) => command.pause(false).await,
            Self::Send(command) => command.run().await,
            Self::Peek(command) => command.run().await,
            Self::Purge(command) => command.run().await,
            Self::Redrive(command) => command.redrive().await,
        }
    }
}

impl SetQueue {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let output = self.remote.output;
        let (name, spec) = (self.name.clone(), self.spec()?);
        let answer = client.put_json(&path(&name), &spec).await?;
        print_queue(&answer, output)
    }

    fn spec(self) -> Result<QueueSpec, Failure> {
        if let Some(file) = &self.file {
            return read_document(file, "queue");
        }
        Ok(QueueSpec {
            function: self.function,
            channel: self.channel,
            path: self.path,
            batch_size: self.batch_size,
            concurrency: self.concurrency,
            visibility_ms: self.visibility_ms,
            attempts: self.attempts,
            max_age_s: self.max_age_s,
            dead_letter_queue: self.dead_letter_queue,
            dead_retention_s: self.dead_retention_s,
            paused: self.paused,
        })
    }
}

impl ListQueues {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["QUEUE", "FUNCTION", "WAITING", "RUNNING", "DEAD", "OLDEST"];
        let rows = |page: QueuesView| page.queues.into_iter().map(row).collect();
        let client = Client::new(&self.remote)?;
        client.print_list(("/v1/queues", PAGE), self.remote.output, &head, rows).await
    }
}

impl OneQueue {
    async fn show(self) -> Result<ExitCode, Failure> {
        // Its members are the same in both forms: a table would leave out most of them.
        Client::new(&self.remote)?.get(&path(&self.name)).await?.print_json()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn pause(self, paused: bool) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let answer = client.patch(&path(&self.name), &ChangeQueue { paused }).await?;
        print_queue(&answer, self.remote.output)
    }

    async fn redrive(self) -> Result<ExitCode, Failure> {
        let redrive = format!("{}/redrive", path(&self.name));
        let answer = Client::new(&self.remote)?.post(&redrive).await?;
        print_count(&answer, self.remote.output, "due again")
    }
}

impl DeleteQueue {
    async fn run(self) -> Result<ExitCode, Failure> {
        let force = if self.force { "?force=true" } else { "" };
        let delete = format!("{}{force}", path(&self.name));
        let answer = Client::new(&self.remote)?.delete(&delete).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }
}

impl SendMessages {
    async fn run(self) -> Result<ExitCode, Failure> {
        if self.idempotency_key.is_some() && self.bodies.len() > 1 {
            return Err(Failure::usage("--idempotency-key goes with one message"));
        }
        let client = Client::new(&self.remote)?;
        let attributes: BTreeMap<_, _> = self.attributes.into_iter().collect();
        let mut messages = Vec::with_capacity(self.bodies.len());
        for data in &self.bodies {
            let (body, body_base64) = match String::from_utf8(read_argument(data)?) {
                Ok(text) => (Some(text), None),
                Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
            };
            messages.push(PublishedBody {
                body,
                body_base64,
                content_type: self.content_type.clone(),
                attributes: attributes.clone(),
                delay_s: self.delay_s,
                idempotency_key: self.idempotency_key.clone(),
            });
        }
        let publish = format!("{}/messages", path(&self.name));
        let answer = client.post_json(&publish, &PublishMessages { messages }).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                for message in answer.parse::<PublishedView>()?.messages {
                    print_line(&printable(&message.id))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl PeekMessages {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["ID", "ATTEMPTS", "PUBLISHED", "BYTES", "BODY", "ERROR"];
        let rows = |page: MessagesView| page.messages.into_iter().map(message_row).collect();
        let client = Client::new(&self.remote)?;
        let messages = format!("{}/messages", path(&self.name));
        let query = format!("{PAGE}&state={}", escape(&self.state));
        client.print_list((&messages, &query), self.remote.output, &head, rows).await
    }
}

impl PurgeMessages {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let purge = format!("{}/messages?state={}", path(&self.name), escape(&self.state));
        print_count(&client.delete(&purge).await?, self.remote.output, "removed")
    }
}

fn print_queue(answer: &Answer, output: Output) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => answer.print_json()?,
        Output::Text => {
            let QueueView { name, queue, messages, .. } = answer.parse()?;
            let to = match (&queue.function, queue.paused) {
                (_, true) => "is paused".to_owned(),
                (None, false) => "has no function: its messages wait".to_owned(),
                (Some(function), false) => format!("delivers to {function}"),
            };
            let line = format!("{name} {to}; {} messages wait", messages.waiting);
            print_line(&printable(&line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_count(answer: &Answer, output: Output, what: &str) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => answer.print_json()?,
        Output::Text => {
            let count = answer.parse::<ChangedInvocationsView>()?.count;
            print_line(&format!("{what}: {count}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(view: QueueView) -> Vec<String> {
    let QueueView { name, queue, messages, .. } = view;
    let DepthView { waiting, running, dead, oldest_s, .. } = messages;
    let function = match (queue.function, queue.channel) {
        (Some(function), Some(channel)) => format!("{function}@{channel}"),
        (function, _) => function.unwrap_or_default(),
    };
    let function = if queue.paused { format!("{function} (paused)") } else { function };
    let oldest = oldest_s.map(|seconds| format!("{seconds:.0} s")).unwrap_or_default();
    vec![name, function, waiting.to_string(), running.to_string(), dead.to_string(), oldest]
}

fn message_row(message: MessageView) -> Vec<String> {
    /// Characters of a body in a table.
    const SHOWN: usize = 60;
    let body = message.body.or(message.body_base64).unwrap_or_default();
    let mut shown: String = body.chars().take(SHOWN).collect();
    if message.truncated || body.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    vec![
        message.id,
        message.attempts.to_string(),
        message.published_at,
        message.body_bytes.to_string(),
        shown,
        message.error.unwrap_or_default(),
    ]
}

fn path(name: &str) -> String {
    format!("/v1/queues/{}", escape(name))
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, e.g. kind=new")?;
    Ok((name.to_owned(), value.to_owned()))
}
