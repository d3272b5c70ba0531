//! The texts of fields that can say one of a few things, for the API's description.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

macro_rules! words {
    ($($(#[doc = $meaning:literal])+ $name:ident = $($word:literal),+;)*) => { $(
        $(#[doc = $meaning])+
        #[derive(Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(SchemaType::new(Type::String))
                    .enum_values(Some([$($word),+]))
                    .description(Some(concat!($($meaning),+).trim()))
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )* };
}

words! {
    /// How a function runs.
    KindWord = "wasi-http-0.2", "wasi-http-0.3", "wasi-command", "wasi-command-0.3",
        "wasi-preview1";
    /// How much of a function is in memory.
    StateWord = "cold", "loaded", "warm";
    /// How a function's invocations are isolated.
    IsolationWord = "request", "reuse";
    /// A day of the week.
    DayWord = "mon", "tue", "wed", "thu", "fri", "sat", "sun";
    /// What guests may do in a store.
    AccessWord = "read", "write", "read-write";
    /// What becomes of an artifact that imports what no setting grants.
    UngrantedWord = "refuse", "deny";
    /// A permission of a token.
    ScopeWord = "read", "deploy", "admin";
    /// Where a line of a log comes from.
    StreamWord = "stdout", "stderr", "system";
    /// What changed the revision that a function is at.
    ActionWord = "deploy", "settings", "activate", "rollback", "channel",
        "channel-deleted", "canary-step", "canary-promoted", "canary-rolled-back";
    /// What moves a channel.
    FollowWord = "revision", "range", "newest";
    /// What caused a call that was enqueued.
    CauseWord = "http", "schedule", "queue", "flow", "callback";
    /// How far a call is that was enqueued.
    InvocationWord = "due", "running", "succeeded", "dead", "cancelled";
    /// When calls are enqueued and answered by 202.
    RespondAsyncWord = "prefer", "always", "never";
    /// What became of a due time of a schedule.
    RunOutcomeWord = "queued", "running", "succeeded", "failed", "cancelled", "skipped", "missed",
        "refused", "forgotten";
    /// How a run of a flow has ended.
    FlowOutcomeWord = "ok", "error", "timeout", "too-large", "interrupted";
    /// How a step of a flow has ended.
    StepOutcomeWord = "done", "continued", "failed";
    /// What a plan does with a thing.
    PlanActionWord = "create", "change", "delete", "keep";
    /// What a step of a plan is about.
    PlanKindWord = "function", "channel", "route", "schedule", "queue", "flow";
    /// What a store keeps.
    StoreKindWord = "keyvalue";
    /// Who must act on a problem.
    FaultWord = "caller", "function", "platform";
}
