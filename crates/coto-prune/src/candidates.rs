use std::collections::BTreeMap;

use coto_coalition::{Coalition, Grouping, Module, Players};
use coto_lowrank::update;
use coto_peft::{Folder, HostTensor, Param, nearest};

use crate::{Error, keep};

/// A folder whose modules are grouped into players, some of which may go.
#[derive(Debug)]
pub struct Candidates<'a> {
    folder: &'a Folder,
    tensors: BTreeMap<String, BTreeMap<Param, &'a HostTensor>>,
    modules: Vec<Module>,
    players: Players,
}

impl<'a> Candidates<'a> {
    /// The players of a folder alone.
    ///
    /// A module's kind is the last segment of its path, and its layer the first number among the segments before. Where numbers
    /// follow several paths (two towers), the stacks' layers are counted one after the other, in the order of the paths. A module
    /// without a number comes after them.
    ///
    /// # Errors
    /// [`Error::Peft`] for a folder that contradicts itself, [`Error::Coalition`].
    pub fn new(folder: &'a Folder, grouping: &Grouping) -> Result<Self, Error> {
        let tensors = folder.modules()?;
        let modules = from_paths(tensors.keys().map(String::as_str));
        Self::of(folder, tensors, modules, grouping)
    }

    /// The players of a folder by its model's own modules, in the model's order, layers and kinds.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::UnknownModule`] for one that the model does not have.
    pub fn of_model(
        folder: &'a Folder,
        modules: &[Module],
        grouping: &Grouping,
    ) -> Result<Self, Error> {
        let tensors = folder.modules()?;
        let known = |path: &str| modules.iter().any(|module| module.path == path);
        if let Some(path) = tensors.keys().find(|path| !known(path)) {
            return Err(Error::UnknownModule {
                module: path.clone(),
                nearest: nearest(path, modules.iter().map(|module| module.path.as_str())),
            });
        }
        let adapted = modules
            .iter()
            .filter(|module| tensors.contains_key(&module.path));
        let adapted = adapted.cloned().collect();
        Self::of(folder, tensors, adapted, grouping)
    }

    fn of(
        folder: &'a Folder,
        tensors: BTreeMap<String, BTreeMap<Param, &'a HostTensor>>,
        modules: Vec<Module>,
        grouping: &Grouping,
    ) -> Result<Self, Error> {
        let players = grouping.players(&modules)?;
        Ok(Self {
            folder,
            tensors,
            modules,
            players,
        })
    }

    /// The players.
    pub fn players(&self) -> &Players {
        &self.players
    }

    /// The adapted modules, in the order that the players know them in.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The number of trained parameters of each player.
    pub fn parameters(&self) -> Vec<usize> {
        let module = |index: &usize| -> usize {
            let tensors = self.tensors[&self.modules[*index].path].values();
            tensors
                .map(|tensor| tensor.shape.iter().product::<usize>())
                .sum()
        };
        self.each(|modules| modules.iter().map(module).sum())
    }

    /// ‖ΔW‖_F = ‖s B A‖_F of each player: the root of the sum of its modules' squares. The matrix is never formed:
    /// ‖B A‖² = tr((BᵀB)(A Aᵀ)).
    ///
    /// # Errors
    /// [`Error::LowRank`] for DoRA and HiRA, whose ΔW depends on the base weight.
    pub fn norms(&self) -> Result<Vec<f64>, Error> {
        let squares: Vec<f64> = self
            .modules
            .iter()
            .map(|module| {
                Ok(update(
                    &self.folder.config,
                    &module.path,
                    &self.tensors[&module.path],
                )?
                .norm()
                .powi(2))
            })
            .collect::<Result<_, Error>>()?;
        Ok(self.each(|modules| {
            modules
                .iter()
                .map(|&index| squares[index])
                .sum::<f64>()
                .sqrt()
        }))
    }

    /// The folder of a coalition's modules, as [`keep`] writes it.
    ///
    /// # Errors
    /// [`Error::Nothing`] for the empty coalition.
    ///
    /// # Panics
    /// For a coalition of another number of players.
    pub fn keep(&self, coalition: &Coalition) -> Result<Folder, Error> {
        assert_eq!(coalition.players(), self.players.len(), "players");
        let modules = self.modules.iter().enumerate();
        let on = modules.filter(|(index, _)| coalition.contains(self.players.player_of(*index)));
        let on: Vec<&str> = on.map(|(_, module)| module.path.as_str()).collect();
        keep(self.folder, |path| on.contains(&path))
    }

    /// The coalition of these modules, if it is one.
    pub(crate) fn of_modules(&self, stays: impl Fn(&Module) -> bool) -> Result<Coalition, Error> {
        let mut coalition = Coalition::empty(self.players.len());
        for player in 0..self.players.len() {
            let members = self.players.modules(player);
            let count = members
                .iter()
                .filter(|&&index| stays(&self.modules[index]))
                .count();
            if count == members.len() {
                coalition.insert(player);
            } else if count > 0 {
                return Err(Error::Split {
                    player: self.players.name(player).to_owned(),
                });
            }
        }
        Ok(coalition)
    }

    fn each<T>(&self, of: impl Fn(&[usize]) -> T) -> Vec<T> {
        (0..self.players.len())
            .map(|player| of(self.players.modules(player)))
            .collect()
    }
}

/// Modules with the layers and kinds that their paths say, from the bottom up.
fn from_paths<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<Module> {
    let placed: Vec<_> = paths.map(|path| (place(path), path)).collect();
    let mut depths = BTreeMap::<&str, usize>::new();
    for (stack, number) in placed.iter().filter_map(|(place, _)| *place) {
        let depth = depths.entry(stack).or_default();
        *depth = (*depth).max(number.saturating_add(1));
    }
    let below = |stack: &str| depths.range(..stack).map(|(_, depth)| depth).sum::<usize>();
    let module = |(place, path): (Option<(&str, usize)>, &str)| {
        let kind = path.rsplit('.').next().unwrap_or(path);
        Module::new(
            path,
            place.map(|(stack, number)| below(stack) + number),
            kind,
        )
    };
    let mut modules: Vec<Module> = placed.into_iter().map(module).collect();
    modules.sort_by_key(|module| module.layer.unwrap_or(usize::MAX)); // stable: within a layer by path
    modules
}

/// What comes before the first number in a path, and the number.
fn place(path: &str) -> Option<(&str, usize)> {
    let (segments, _) = path.rsplit_once('.')?;
    let mut start = 0;
    segments.split('.').find_map(|segment| {
        let before = &path[..start];
        start += segment.len() + 1;
        segment
            .parse::<u32>()
            .ok()
            .map(|number| (before, number as usize))
    })
}
