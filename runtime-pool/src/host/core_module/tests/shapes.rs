//! Types lie in memory as the engine lays them out.

use wasmtime::component::{ComponentType, Resource};
use wasmtime_wasi::p2::{DynPollable, bindings::clocks::wall_clock::Datetime};
use wasmtime_wasi_http::{
    FieldMap,
    p2::{
        bindings::http::types::{
            DnsErrorPayload, ErrorCode, FieldSizePayload, HeaderError, Method, Scheme,
            TlsAlertReceivedPayload,
        },
        types::HostIncomingResponse,
    },
};
use wasmtime_wasi_io::bindings::wasi::io::streams::StreamError;

use crate::host::core_module::abi::{Abi, Shape};

fn same<T: Abi + ComponentType>() {
    let name = std::any::type_name::<T>();
    let (ours, engines) = (T::SHAPE, T::ABI);
    assert_eq!(ours.size, engines.size32 as usize, "{name}");
    assert_eq!(ours.align, engines.align32 as usize, "{name}");
    assert_eq!(Some(ours.flat.count), engines.flat_count(16), "{name}");
}

#[test]
fn sizes_alignments_and_words_are_those_of_the_engine() {
    same::<bool>();
    same::<u8>();
    same::<u16>();
    same::<u32>();
    same::<u64>();
    same::<String>();
    same::<Vec<u8>>();
    same::<Option<u8>>();
    same::<Option<u16>>();
    same::<Option<u64>>();
    same::<Option<String>>();
    same::<(u64, u64)>();
    same::<(String, Vec<u8>)>();
    same::<Result<(), ()>>();
    same::<Result<u64, StreamError>>();
    same::<Result<Vec<u8>, StreamError>>();
    same::<Result<Resource<FieldMap>, HeaderError>>();
    same::<Result<(), ErrorCode>>();
    same::<Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>>();
    same::<Option<Result<Result<Option<Resource<FieldMap>>, ErrorCode>, ()>>>();
    same::<Vec<Resource<DynPollable>>>();
    same::<Method>();
    same::<Scheme>();
    same::<Option<Scheme>>();
    same::<HeaderError>();
    same::<ErrorCode>();
    same::<Option<ErrorCode>>();
    same::<DnsErrorPayload>();
    same::<TlsAlertReceivedPayload>();
    same::<FieldSizePayload>();
    same::<StreamError>();
    same::<Datetime>();
}

#[test]
fn only_types_with_lists_need_memory_of_the_guest() {
    let has_lists = |shape: Shape| shape.has_lists;
    assert!(has_lists(ErrorCode::SHAPE) && has_lists(<Option<String>>::SHAPE));
    assert!(!has_lists(<Result<u64, StreamError>>::SHAPE) && !has_lists(HeaderError::SHAPE));
}
