//! How is an instance made, and how is a request given to it?
//!
//! One file for each kind of guest. `template` makes instances of all kinds, and [`run`] calls them.

pub(crate) mod cgi;
mod errors;
pub(crate) mod http;
pub(crate) mod http_async;
pub(crate) mod request;
pub(crate) mod spec;
pub(crate) mod template;

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    InvokeError,
    executor::{
        request::{FunctionCall, GuestEnd, ResponseHead},
        template::InstanceTemplate,
    },
    host::instance::{AnyGuest, Instance},
};

/// Gives an instance of `template` a request, and waits until its guest has ended.
pub(crate) async fn run(
    instance: &mut Instance,
    template: &Arc<InstanceTemplate>,
    call: Box<FunctionCall>,
    head: oneshot::Sender<ResponseHead>,
) -> Result<GuestEnd, InvokeError> {
    match &mut instance.guest {
        AnyGuest::Http(guest) => http::call(guest, call, head).await,
        AnyGuest::HttpCore(guest) => http::call_core(guest, call, head).await,
        AnyGuest::HttpAsync(guest) => http_async::call(guest, call, head).await,
        AnyGuest::Command(guest) => {
            cgi::call_component(guest, template.cgi_input(call, head)).await?;
            Ok(GuestEnd::Returned)
        }
        AnyGuest::CommandAsync(guest) => {
            cgi::call_async_component(guest, template.cgi_input(call, head)).await?;
            Ok(GuestEnd::Returned)
        }
        AnyGuest::Module(guest) => {
            cgi::call_module(guest, template.cgi_input(call, head)).await?;
            Ok(GuestEnd::Returned)
        }
    }
}
