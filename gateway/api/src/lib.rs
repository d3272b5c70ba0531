//! Which names and shapes do the control plane's API and its clients share?
//!
//! The serde types of `/v1`, each defined once: the control plane writes them, the command line
//! reads them, and the API's description is made of them. A field that is added to a type that
//! clients read must be an `Option` or have a default, so that a client can talk to a gateway that
//! is older than it is; clients ignore fields that they do not know.
//!
//! This crate knows no HTTP server, no store and no runtime.

#![forbid(unsafe_code)]

mod access;
mod answer;
mod data;
mod functions;
mod limits;
mod log;
mod manifest;
mod node;
mod objects;
mod route;
mod triggers;
mod whole;
mod words;

pub use crate::{
    access::{
        certificate::{CertificateView, CertificatesView, PutCertificate},
        secret::{PutSecret, SecretView, SecretsView},
        token::{CreateToken, FreshTokenView, TokenView, TokensView},
    },
    answer::{NextCursor, ProblemView},
    data::{
        files::{FilesDiff, MountView, TreeEntryView, TreePageView, TreeView},
        store::{
            EntriesView, EntryKeyView, EntryLine, ImportedView, StoreBackend, StoreQuotaView,
            StoreSpec, StoreUsageView, StoreView, StoresView,
        },
    },
    functions::{
        artifact::ArtifactView,
        channel::{
            CanaryView, ChannelView, ChannelsView, PutCanary, PutChannel, ShadowView, WeightView,
        },
        function::{ChangeFunction, FunctionView, FunctionsView, InstancesView, SnapshotView},
        grants::{ConfigSecretView, ConfigView, GrantsView, StoreGrantView, StorePartView},
        revision::{
            ChangeView, HistoryView, NamesDiff, RevisionDiff, RevisionView, RevisionsView,
            SettingDiff, TextDiff,
        },
        settings::{
            CredentialView, IsolationView, OTHER_SETTINGS, OtherSettings, SettingsPatch,
            SettingsView, SnapshotSetting, WindowView,
        },
    },
    limits::{
        FunctionLimit, LIMITS, LimitRow, Unit,
        values::{AskedLimits, LimitValues},
    },
    log::{LineView, LogView},
    manifest::{Manifest, ManifestFunction, MistakeView, PlanChangeView, PlanStepView, PlanView},
    node::{MachineView, NodeLimitsView},
    route::{
        ApiKeysView, BasicView, CompressionView, CorsView, HeaderRules, HmacView, JwtView,
        RateView, RedirectView, RouteSpec, RouteView, RoutesView, StaticAnswer,
    },
    triggers::{
        flow::{
            DurableRunView, DurableRunsView, ErrorAction, FlowRunView, FlowSpec, FlowStep,
            FlowStepView, FlowView, FlowsView, OnError, StartFlow, StartedFlow,
        },
        invocation::{
            AnsweredView, ChangedInvocationsView, InvocationStatusView, InvocationView,
            InvocationsView, SentView,
        },
        queue::{
            ChangeQueue, DepthView, MessageView, MessagesView, PublishMessages, PublishedBody,
            PublishedMessage, PublishedView, QueueSpec, QueueView, QueuesView,
        },
        schedule::{
            CatchUpPolicy, ChangeSchedule, OverlapPolicy, RunView, ScheduleSpec, ScheduleView,
            ScheduledRequest, SchedulesView, StartedRun,
        },
    },
    words::{
        AccessWord, ActionWord, CauseWord, DayWord, FaultWord, FlowOutcomeWord, FollowWord,
        InvocationWord, IsolationWord, KindWord, PlanActionWord, PlanKindWord, RespondAsyncWord,
        RunOutcomeWord, ScopeWord, StateWord, StepOutcomeWord, StoreKindWord, StreamWord,
        UngrantedWord,
    },
};
