//! `random COUNT FILE` writes COUNT random but valid binaries to one file, the same ones each time.
//!
//! The length of each precedes it in four bytes, the lowest first. Most binaries are core modules
//! that export `_start` and end; every eighth is a component with random exports.

use std::{env, error::Error, fs};

use arbitrary::{Arbitrary as _, Unstructured};
use wasm_smith::{Component, Config, Module};

/// Bytes of randomness for one binary. More bytes make a larger binary.
const SEED_BYTES: usize = 4_096;
/// Iterations of loops before the module ends itself.
const FUEL: u32 = 10_000;

/// An empty module with an export `_start` of a function without parameters and results.
const START: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, count, file] = &arguments[..] else { return Err("random COUNT FILE".into()) };
    let mut random = Random(0x5eed);
    let mut binaries = Vec::new();
    for number in 0..count.parse()? {
        let binary = match number % 8 {
            7 => component(&random.bytes())?,
            _ => command(&random.bytes())?,
        };
        binaries.extend_from_slice(&u32::try_from(binary.len())?.to_le_bytes());
        binaries.extend_from_slice(&binary);
    }
    fs::write(file, binaries)?;
    Ok(())
}

fn command(seed: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let config = Config {
        exports: Some(START.to_vec()),
        max_imports: 0,
        max_memories: 2,
        max_tables: 4,
        max_memory32_bytes: 1 << 20,
        max_table_elements: 1_000,
        allow_start_export: true,
        // The gateway refuses the features that are off here; other tests cover that.
        exceptions_enabled: false,
        gc_enabled: false,
        // References to values of the host count as garbage collection.
        reference_types_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        shared_everything_threads_enabled: false,
        ..Config::default()
    };
    let mut module = Module::new(config, &mut Unstructured::new(seed))?;
    module.ensure_termination(FUEL)?;
    Ok(module.to_bytes())
}

fn component(seed: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(Component::arbitrary(&mut Unstructured::new(seed))?.to_bytes())
}

/// A generator of pseudo-random numbers with a fixed seed.
struct Random(u64);

impl Random {
    fn bytes(&mut self) -> Vec<u8> {
        let words = (0..SEED_BYTES / 8).flat_map(|_| {
            // xorshift64*
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()
        });
        words.collect()
    }
}
