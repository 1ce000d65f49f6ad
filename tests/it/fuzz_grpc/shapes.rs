//! Messages made of their descriptions: well-typed and meaningless, so that they come past the
//! decoder and into the rules. What a field is called or holds is drawn from words that matter.

use std::collections::BTreeMap;

use daybook_wire::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// How deep messages are nested; beyond it they are empty.
const DEPTH_MAX: usize = 7;
/// Elements of a repeated field, at most.
const REPEATED_MAX: u64 = 3;
/// Words that some rule looks for.
const WORDS: [&str; 22] = [
    "account-1",
    "account-2",
    "$$account-1",
    "$ce-account",
    "$streams",
    "$all",
    "$idx-ce-account",
    "ledger.account-1",
    "$users",
    "group",
    "type",
    "content-type",
    "application/json",
    "application/octet-stream",
    "$metadata",
    "Happened",
    "00000000-0000-4000-8000-000000000001",
    "not-a-uuid",
    "0@account-1",
    "{\"$maxCount\":1}",
    "^(?!a$)",
    "",
];
/// Numbers at which something changes.
const NUMBERS: [u64; 12] =
    [0, 1, 2, 3, 10, 256, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX];

/// Chance that can be repeated: splitmix64.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// A call that a server may take.
#[derive(Clone, Debug)]
pub struct Method {
    /// `/package.Service/Method`
    pub path: String,
    /// The full name of its request.
    pub request: String,
    /// Whether it takes many of them.
    pub many: bool,
}

/// What messages look like.
pub struct Shapes {
    messages: BTreeMap<String, DescriptorProto>,
    /// All calls there are.
    pub methods: Vec<Method>,
}

impl Shapes {
    /// Those of the server's own description.
    pub fn new() -> Shapes {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut shapes = Shapes { messages: BTreeMap::new(), methods: Vec::new() };
        for file in set.file {
            let package = format!(".{}", file.package());
            for message in file.message_type {
                shapes.add(&package, message);
            }
            for service in file.service {
                for method in &service.method {
                    let path = format!("{package}.{}/{}", service.name(), method.name());
                    shapes.methods.push(Method {
                        path: format!("/{}", &path[1..]),
                        request: method.input_type().to_owned(),
                        many: method.client_streaming(),
                    });
                }
            }
        }
        shapes
    }

    fn add(&mut self, scope: &str, message: DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested.clone());
        }
        self.messages.insert(name, message);
    }

    /// A message called `name`.
    pub fn message(&self, name: &str, chance: &mut Chance) -> Vec<u8> {
        let mut out = Vec::new();
        self.fill(name, chance, DEPTH_MAX, &mut out);
        out
    }

    fn fill(&self, name: &str, chance: &mut Chance, depth: usize, out: &mut Vec<u8>) {
        let (Some(message), true) = (self.messages.get(name), depth > 0) else { return };
        let choices = message.oneof_decl.len() as u64;
        // Of each choice one field is drawn; some are left out.
        let drawn: Vec<u64> = (0..choices).map(|_| chance.number()).collect();
        for (at, choice) in drawn.iter().enumerate() {
            let of = |field: &&FieldDescriptorProto| field.oneof_index == Some(at as i32);
            let fields: Vec<&FieldDescriptorProto> = message.field.iter().filter(of).collect();
            if !fields.is_empty() && choice % 16 != 0 {
                let field = fields[(choice / 16) as usize % fields.len()];
                self.field(field, chance, depth, out);
            }
        }
        for field in message.field.iter().filter(|field| field.oneof_index.is_none()) {
            let times = match field.label() {
                Label::Repeated => chance.below(REPEATED_MAX + 1),
                _ => u64::from(chance.below(8) != 0),
            };
            for _ in 0..times {
                self.field(field, chance, depth, out);
            }
        }
    }

    fn field(
        &self,
        field: &FieldDescriptorProto,
        chance: &mut Chance,
        depth: usize,
        out: &mut Vec<u8>,
    ) {
        let key = |wire: u64| (field.number() as u64) << 3 | wire;
        match field.r#type() {
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                varint(key(1), out);
                out.extend_from_slice(&chance.number().to_le_bytes());
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                varint(key(5), out);
                out.extend_from_slice(&(chance.number() as u32).to_le_bytes());
            }
            Type::String | Type::Bytes => {
                varint(key(2), out);
                length_and(chance.pick(&WORDS).as_bytes(), out);
            }
            Type::Message | Type::Group => {
                let mut nested = Vec::new();
                self.fill(field.type_name(), chance, depth - 1, &mut nested);
                varint(key(2), out);
                length_and(&nested, out);
            }
            Type::Bool => {
                varint(key(0), out);
                varint(chance.below(2), out);
            }
            Type::Enum => {
                varint(key(0), out);
                varint(chance.below(5), out);
            }
            _ => {
                varint(key(0), out);
                varint(*chance.pick(&NUMBERS), out);
            }
        }
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn length_and(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
