//! Which file of a crate needs which other.
//!
//! An arrow leads from a file to the file that defines what it names, in a `use`, a path, a macro
//! or an attribute. Code for tests, `mod` declarations and re-exports of children are no arrows.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, ImplItemFn, Item, ItemUse, Local, Macro, MetaList, UseTree, Visibility,
    buffer::{Cursor, TokenBuffer},
    visit::{self, Visit},
};

/// How many re-exports of re-exports are followed: ends a `use` that leads to itself. Arbitrary.
const REEXPORTS_MAX: u32 = 8;

/// Texts by path from the workspace's root, as in `store/src/lib.rs`.
pub(crate) type Sources = BTreeMap<String, String>;
/// The parts of a path within a crate.
type Name = Vec<String>;
/// Pairs of files, the first of which names items of the second, with the paths it uses.
pub(crate) type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// The items of a file; `None` if there is no such file.
fn parse(sources: &Sources, file: &str) -> Option<Vec<Item>> {
    let parsed = syn::parse_file(sources.get(file)?);
    Some(parsed.unwrap_or_else(|error| panic!("{file}: {error}")).items)
}

pub(crate) struct Module {
    pub(crate) file: String,
    /// Without the items of its inline modules, which are modules of their own here.
    items: Vec<Item>,
    /// The names that `use` brings in, with the paths they stand for.
    uses: BTreeMap<String, Name>,
}

/// The modules of a crate by their path, which for the crate's root is empty.
#[derive(Default)]
pub(crate) struct Modules {
    pub(crate) modules: BTreeMap<Name, Module>,
    /// Files that are declared and not there.
    pub(crate) missing: Vec<String>,
}

impl Modules {
    pub(crate) fn read(sources: &Sources, name: &str) -> Self {
        let mut modules = Self::default();
        let src = format!("{name}/src");
        let roots = [format!("{src}/lib.rs"), format!("{src}/main.rs")];
        let root = roots.into_iter().find(|root| sources.contains_key(root)).unwrap();
        modules.add(sources, Vec::new(), &root, &src, parse(sources, &root).unwrap());
        modules
    }

    /// `below` is the directory that the files of its child modules are in.
    fn add(&mut self, sources: &Sources, path: Name, file: &str, below: &str, items: Vec<Item>) {
        let mut module = Module { file: file.to_owned(), items: Vec::new(), uses: BTreeMap::new() };
        for item in items.into_iter().filter(|item| !is_for_tests(attributes(item))) {
            if let Item::Mod(child) = item {
                let name = child.ident.to_string();
                let below = format!("{below}/{name}");
                let path = [path.as_slice(), &[name]].concat();
                let own_file = format!("{below}.rs");
                if let Some((_, items)) = child.content {
                    self.add(sources, path, file, &below, items);
                } else if let Some(items) = parse(sources, &own_file) {
                    self.add(sources, path, &own_file, &below, items);
                } else {
                    self.missing.push(own_file);
                }
            } else {
                if let Item::Use(item) = &item {
                    module.uses.extend(leaves(item));
                }
                module.items.push(item);
            }
        }
        self.modules.insert(path, module);
    }

    /// The module that defines the item to which `path` leads from the module `from`; `None` for
    /// an item of another crate. A module that re-exports such an item counts as its definer.
    fn defines(&self, from: &[String], path: &[String], reexports: u32) -> Option<Name> {
        let mut module = from.to_vec();
        let mut is_ours = false;
        for (index, name) in path.iter().enumerate() {
            match name.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()?),
                name => {
                    module.push(name.to_owned());
                    if !self.modules.contains_key(&module) {
                        module.pop();
                        let leads_on =
                            self.modules[&module].uses.get(name).filter(|_| reexports > 0);
                        let defines = leads_on.and_then(|path_of_use| {
                            let path = [path_of_use, &path[index + 1..]].concat();
                            self.defines(&module, &path, reexports - 1)
                        });
                        return defines.or(is_ours.then_some(module));
                    }
                }
            }
            is_ours = true;
        }
        Some(module)
    }

    pub(crate) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (path, module) in &self.modules {
            let mut reader = Reader { modules: self, path, module, arrows: &mut arrows };
            module.items.iter().for_each(|item| reader.visit_item(item));
        }
        arrows
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = (String, String)> {
        self.modules.values().flat_map(|module| {
            let names = module.items.iter().filter_map(|item| match item {
                Item::Struct(item) => Some(&item.ident),
                Item::Enum(item) => Some(&item.ident),
                Item::Union(item) => Some(&item.ident),
                Item::Trait(item) => Some(&item.ident),
                Item::Type(item) => Some(&item.ident),
                _ => None,
            });
            names.map(|name| (name.to_string(), module.file.clone()))
        })
    }
}

/// Finds the arrows of a module.
struct Reader<'a> {
    modules: &'a Modules,
    path: &'a [String],
    module: &'a Module,
    arrows: &'a mut Arrows,
}

impl Reader<'_> {
    fn names(&mut self, path: &[String]) {
        // A single name that no `use` brings in is an item of this module or a variable, even if a
        // child module has the same name.
        let is_local = path.len() == 1 && !self.module.uses.contains_key(&path[0]);
        let target = self.modules.defines(self.path, path, REEXPORTS_MAX);
        if let Some(target) = target.filter(|_| !is_local) {
            self.point(&target, path);
        }
    }

    fn point(&mut self, target: &[String], path: &[String]) {
        let (from, to) = (&self.module.file, &self.modules.modules[target].file);
        if from != to {
            let arrow = self.arrows.entry((from.clone(), to.clone())).or_default();
            arrow.insert(path.join("::"));
        }
    }

    /// Finds paths in the tokens of a macro or an attribute: names joined by `::`.
    fn scan(&mut self, mut cursor: Cursor<'_>) {
        while !cursor.eof() {
            if let Some((inside, _, _, after)) = cursor.any_group() {
                self.scan(inside);
                cursor = after;
            } else if let Some((mut name, mut after)) = cursor.ident() {
                let mut path = vec![name.to_string()];
                while let Some(next) = after_colons(after) {
                    after = next;
                    let Some(found) = after.ident() else { break };
                    (name, after) = found;
                    path.push(name.to_string());
                }
                if path.len() > 1 {
                    self.names(&path);
                }
                cursor = after;
            } else {
                let Some((_, after)) = cursor.token_tree() else { return };
                cursor = after;
            }
        }
    }
}

impl Visit<'_> for Reader<'_> {
    fn visit_item(&mut self, item: &Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_local(&mut self, local: &Local) {
        if !is_for_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        for (_, path) in leaves(item) {
            if let Some(target) = self.modules.defines(self.path, &path, REEXPORTS_MAX) {
                let is_private = matches!(item.vis, Visibility::Inherited);
                if is_private || !target.starts_with(self.path) {
                    self.point(&target, &path);
                }
            }
        }
    }

    // An item with `pub(in crate::cli)` does not need `cli`.
    fn visit_visibility(&mut self, _: &Visibility) {}

    fn visit_path(&mut self, path: &syn::Path) {
        if path.leading_colon.is_none() {
            let names: Vec<String> =
                path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.names(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &Macro) {
        self.scan(TokenBuffer::new2(call.tokens.clone()).begin());
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &MetaList) {
        self.scan(TokenBuffer::new2(list.tokens.clone()).begin());
    }
}

fn after_colons(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, cursor) = cursor.punct()?;
    let (second, cursor) = cursor.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(cursor)
}

/// The names that a `use` brings in, with their paths.
fn leaves(item: &ItemUse) -> Vec<(String, Name)> {
    fn collect(tree: &UseTree, path: &[String], leaves: &mut Vec<(String, Name)>) {
        let with = |name: &syn::Ident| [path, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(tree) => collect(&tree.tree, &with(&tree.ident), leaves),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| collect(tree, path, leaves));
            }
            UseTree::Name(tree) if tree.ident == "self" => {
                leaves.push((path.last().cloned().unwrap_or_default(), path.to_vec()));
            }
            UseTree::Name(tree) => leaves.push((tree.ident.to_string(), with(&tree.ident))),
            UseTree::Rename(tree) => leaves.push((tree.rename.to_string(), with(&tree.ident))),
            UseTree::Glob(_) => leaves.push(("*".to_owned(), path.to_vec())),
        }
    }
    let mut found = Vec::new();
    if item.leading_colon.is_none() {
        collect(&item.tree, &[], &mut found);
    }
    found
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(syn::ItemConst { attrs, .. })
        | Item::Enum(syn::ItemEnum { attrs, .. })
        | Item::Fn(syn::ItemFn { attrs, .. })
        | Item::Impl(syn::ItemImpl { attrs, .. })
        | Item::Macro(syn::ItemMacro { attrs, .. })
        | Item::Mod(syn::ItemMod { attrs, .. })
        | Item::Static(syn::ItemStatic { attrs, .. })
        | Item::Struct(syn::ItemStruct { attrs, .. })
        | Item::Trait(syn::ItemTrait { attrs, .. })
        | Item::Type(syn::ItemType { attrs, .. })
        | Item::Use(ItemUse { attrs, .. }) => attrs,
        _ => &[],
    }
}
