//! `mayfly route`: which requests go to which function.

use std::{fs, path::PathBuf, process::ExitCode};

use gateway_api::{RedirectView, RouteSpec, RouteView, RoutesView};

use crate::{
    cli::{
        client::{Client, Remote, transport::escape},
        commands::{access::secret::read_value, functions::PAGE},
        failure::Failure,
        output::{Output, print_line},
        printable::printable,
    },
    functions::routes::auth::basic::PasswordHash,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RouteCommand {
    /// Set a route, e.g. `route set users --host api.example.com --path '/users/*rest' --function users`
    Set(Box<SetRoute>),
    /// List the routes
    List(ListRoutes),
    /// Show a route
    Show(ShowRoute),
    /// Delete a route
    Delete(DeleteRoute),
    /// Hash a password from standard input, for `basic` of a route
    Password,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetRoute {
    /// Name of the route
    name: String,
    /// A file with the whole route as JSON, in place of all other options
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "host", "path", "methods", "headers", "priority", "function", "channel", "flow",
            "strip", "redirect", "status",
        ]
    )]
    file: Option<PathBuf>,
    /// The host, e.g. api.example.com or '*.example.com' [default: any, after the addresses of
    /// functions]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The path, e.g. '/users/:id' or '/files/*rest'
    #[arg(long, value_name = "PATH", required_unless_present = "file")]
    path: Option<String>,
    /// A method that it takes; may be repeated [default: all]
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// A header field that requests must have, e.g. x-beta=1 or x-beta='*'; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Of routes with the same host and path, the highest comes first
    #[arg(long, value_name = "NUMBER", default_value_t, allow_negative_numbers = true)]
    priority: i32,
    /// The function that is called
    #[arg(long, value_name = "NAME", required_unless_present_any = ["file", "flow", "redirect"])]
    function: Option<String>,
    /// The channel of the function
    #[arg(long, value_name = "CHANNEL", requires = "function")]
    channel: Option<String>,
    /// The flow that runs
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    flow: Option<String>,
    /// The function, or the first step of the flow, sees the path below the fixed beginning of PATH
    #[arg(long)]
    strip: bool,
    /// Send clients to this address, e.g. 'https://new.example.com/users/{id}'
    #[arg(long, value_name = "LOCATION", conflicts_with_all = ["function", "flow"])]
    redirect: Option<String>,
    /// The status of the redirect
    #[arg(long, value_name = "STATUS", default_value = "308", requires = "redirect")]
    status: u16,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListRoutes {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowRoute {
    /// Name of the route
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteRoute {
    /// Name of the route
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl RouteCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Delete(command) => command.run().await,
            Self::Password => hash_password(),
        }
    }
}

impl SetRoute {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let spec = match &self.file {
            Some(file) => read(file)?,
            None => RouteSpec {
                host: self.host,
                path: self.path.unwrap_or_default(),
                methods: self.methods,
                headers: self.headers.into_iter().collect(),
                priority: self.priority,
                function: self.function,
                channel: self.channel,
                flow: self.flow,
                strip: self.strip,
                redirect: self
                    .redirect
                    .map(|location| RedirectView { location, status: self.status }),
                ..RouteSpec::default()
            },
        };
        let answer = client.put_json(&path(&self.name), &spec).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                let view: RouteView = answer.parse()?;
                let line = format!("{} leads to {}", address(&view.route), leads_to(&view.route));
                print_line(&printable(&line))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ListRoutes {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["ROUTE", "ADDRESS", "METHODS", "PRIORITY", "LEADS TO"];
        let rows = |page: RoutesView| page.routes.into_iter().map(row).collect();
        let client = Client::new(&self.remote)?;
        client.print_list(("/v1/routes", PAGE), self.remote.output, &head, rows).await
    }
}

impl ShowRoute {
    async fn run(self) -> Result<ExitCode, Failure> {
        // Its members are the same in both forms: a table would leave out most of them.
        Client::new(&self.remote)?.get(&path(&self.name)).await?.print_json()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl DeleteRoute {
    async fn run(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.delete(&path(&self.name)).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }
}

fn row(view: RouteView) -> Vec<String> {
    let RouteView { name, route, .. } = view;
    let methods = match route.methods.is_empty() {
        true => "all".to_owned(),
        false => route.methods.join(","),
    };
    vec![name, address(&route), methods, route.priority.to_string(), leads_to(&route)]
}

/// `api.example.com/users/:id`, or `*/users/:id` for any host.
fn address(route: &RouteSpec) -> String {
    format!("{}{}", route.host.as_deref().unwrap_or("*"), route.path)
}

fn leads_to(route: &RouteSpec) -> String {
    if let Some(flow) = &route.flow {
        return format!("flow {flow}");
    }
    match (&route.function, &route.redirect, &route.answer) {
        (Some(function), ..) => match &route.channel {
            Some(channel) => format!("{function}@{channel}"),
            None => function.clone(),
        },
        (_, Some(redirect), _) => format!("{} ({})", redirect.location, redirect.status),
        (_, _, Some(answer)) => format!("an answer ({})", answer.status),
        (None, None, None) => String::new(),
    }
}

fn path(name: &str) -> String {
    format!("/v1/routes/{}", escape(name))
}

fn read(file: &PathBuf) -> Result<RouteSpec, Failure> {
    let text = fs::read(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format!("{} is no route: {error}", file.display())))
}

/// Prints what a route keeps of a password.
fn hash_password() -> Result<ExitCode, Failure> {
    let password = read_value("the password")?;
    if password.is_empty() {
        return Err(Failure::usage("the password is empty: write it to standard input"));
    }
    let hash = PasswordHash::of(&password)
        .map_err(|error| Failure::failed(format!("asking the system for random bytes: {error}")))?;
    print_line(&hash.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, e.g. x-beta=1")?;
    Ok((name.to_owned(), value.to_owned()))
}
