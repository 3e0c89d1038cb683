use std::sync::Arc;

use crate::names::Options;
use crate::{
    Consensus, Error, Fisher, InSpace, Lego, Linear, Method, ModelStock, RegMean, Rule, Sce, Slerp,
    Space, Sparse, Sparsify, TiesFlavour, Zip,
};

/// A space, a rule or a method, as a user reads of it.
#[derive(Debug)]
pub struct Entry {
    /// Its names, the usual one first.
    pub names: &'static [&'static str],
    /// What it does, what it costs and when to choose it.
    pub about: &'static str,
    /// Where it is from.
    pub source: &'static str,
    /// The fields of [`Options`] that it takes. A rank to compress to is the [plan](crate::Plan)'s, so every method has one.
    pub options: &'static [&'static str],
    pub(crate) make: Make,
}

/// What an entry is a name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Where a rule is done: `space+rule`.
    Space,
    /// What is done with the entries of matrices, in any space.
    Rule,
    /// A method of its own, that has no space.
    Method,
}

impl Entry {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.make {
            Make::Space(_) => Kind::Space,
            Make::Rule(_) => Kind::Rule,
            Make::Method(_) => Kind::Method,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Make {
    Space(fn(&Options) -> Result<Space, Error>),
    Rule(fn(&Options) -> Arc<dyn Rule>),
    Method(fn(&Options) -> Result<Arc<dyn Method>, Error>),
}

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        names: &["concat", "cat"],
        about: "The weighted sum of the updates, exactly: the A stacked and the B side by side, so the rank is the sum of the ranks. \
                Costs a copy. The yardstick for everything else, and the thing to do when the rank does not matter, as before folding \
                into the base.",
        source: "the algebra of ΔW; task arithmetic, arXiv 2212.04089",
        options: &[],
        make: Make::Method(|_| Ok(sum(Linear::default()))),
    },
    Entry {
        names: &["svd"],
        about: "The weighted sum of the updates, then the nearest update of the rank asked for, with the relative error module by \
                module. Costs a QR of the stacked factors; ΔW is never formed. To choose for a plain sum or mean that must stay small.",
        source: "Eckart and Young, Psychometrika 1, 1936",
        options: &["rank"],
        make: Make::Method(|options| match options.rank {
            Some(_) => Ok(sum(Linear::default())),
            None => Err(needs(
                "svd compresses, so it needs a rank; concat is the sum of full rank",
            )),
        }),
    },
    Entry {
        names: &["fuse"],
        about: "The weighted mean of the A and that of the B, each for itself, so with cross terms between adapters. The rank stays, and \
                must be one for all. Costs next to nothing. Good where the factors correspond: adapters of one start, trained with \
                CoTo, or aligned first.",
        source: "LoraRetriever, arXiv 2402.09997; CopRA, arXiv 2410.22911",
        options: &[],
        make: Make::Method(|_| Ok(lift(Space::Factors, mean()))),
    },
    Entry {
        names: &["lego"],
        about: "Takes the adapters apart into rank-one units, gathers like units by k-means and builds a new adapter with one unit for \
                each cluster. Ranks may differ, and the new one is free. Costs inner products of all units. To choose for many \
                adapters with much in common, of which a small one is to be made.",
        source: "LoRA-LEGO, arXiv 2409.16167",
        options: &["rank"],
        make: Make::Method(|options| Ok(Arc::new(Lego { rank: options.rank }))),
    },
    Entry {
        names: &["regmean"],
        about: "The update whose outputs are nearest to each adapter's own on that adapter's inputs: a least-squares problem with a \
                closed form. Needs calibration inputs. Costs one factorisation in each module. The best founded choice where there is \
                data, even a few hundred texts.",
        source: "RegMean, arXiv 2212.09849",
        options: &["off_diagonal", "ridge"],
        make: Make::Method(|options| {
            let own = RegMean::default();
            Ok(Arc::new(RegMean {
                off_diagonal: options.off_diagonal.unwrap_or(own.off_diagonal),
                ridge: options.ridge.unwrap_or(own.ridge),
            }))
        }),
    },
    Entry {
        names: &["fisher"],
        about: "The mean of the factors, each entry weighted by how much the loss depends on it. Needs gradients of calibration data, \
                and factors that correspond as for fuse. Costs what fuse costs, once the gradients are there.",
        source: "Fisher merging, arXiv 2111.09832",
        options: &[],
        make: Make::Method(|_| Ok(Arc::new(Fisher::default()))),
    },
    Entry {
        names: &["zip"],
        about: "The sum of the updates with a learned factor for every input column of every adapter, so that outputs are kept and the \
                adapters use different columns. Needs calibration inputs. Costs some hundred steps of a small problem in each module. \
                Made for adapters of unlike purpose, as content and style.",
        source: "ZipLoRA, arXiv 2311.13600",
        options: &["penalty", "steps"],
        make: Make::Method(|options| {
            let own = Zip::default();
            Ok(Arc::new(Zip {
                lambda: options.penalty.unwrap_or(own.lambda),
                steps: options.steps.unwrap_or(own.steps),
                ..own
            }))
        }),
    },
    Entry {
        names: &["core"],
        about: "Core space: the rule sees the small matrices between reference bases of all A and of all B. Nothing is lost, the result \
                has at most the ranks together, and the cost is that of the factors. Where a rule stands alone, it is done here.",
        source: "Core Space, arXiv 2509.17786",
        options: &[],
        make: Make::Space(|_| Ok(Space::Core)),
    },
    Entry {
        names: &["knots"],
        about: "KnOTS: the rule sees each adapter in the left singular directions of all updates side by side. The result has at most the \
                ranks together. Costs more than core, for the matrices have all input columns. Aligns what adapters do to the outputs.",
        source: "KnOTS, arXiv 2410.19735",
        options: &[],
        make: Make::Space(|_| Ok(Space::Knots)),
    },
    Entry {
        names: &["delta"],
        about: "The rule sees the entries of ΔW itself, as when whole models are merged. The result is of full rank, so a rank to \
                compress to is needed, and that loses something. Costs all of ΔW for every adapter, one module at a time.",
        source: "the rules' own papers",
        options: &[],
        make: Make::Space(|_| Ok(Space::Delta)),
    },
    Entry {
        names: &["factors"],
        about: "The rule sees A and B, each for itself, so with cross terms between adapters. One rank for all. Cheapest, and the farthest \
                from what the rules' papers do; see fuse for when it is right.",
        source: "PEFT's `linear`, `ties`, `dare_linear` are of this kind",
        options: &[],
        make: Make::Space(|_| Ok(Space::Factors)),
    },
    Entry {
        names: &["shared"],
        about: "Compresses all adapters into bases of the rank asked for that they share, and merges there. The result has that rank \
                without another compression; what lies outside of the bases is lost. To choose for many adapters and one small rank.",
        source: "our reading of Compress-then-Merge, arXiv 2606.03723",
        options: &["rank"],
        make: Make::Space(|options| match options.rank {
            Some(rank) => Ok(Space::Shared { rank }),
            None => Err(needs("shared bases need a rank")),
        }),
    },
    Entry {
        names: &["linear", "sum", "task-arithmetic"],
        about: "Σ wₖ τₖ. The same in all lossless spaces, and exact.",
        source: "task arithmetic, arXiv 2212.04089",
        options: &[],
        make: Make::Rule(|_| Arc::new(Linear::default())),
    },
    Entry {
        names: &["mean", "average"],
        about: "Σ wₖ τₖ / Σ wₖ. The same in all lossless spaces, and exact. The first thing to try, above all after training with CoTo.",
        source: "model soups, arXiv 2203.05482",
        options: &[],
        make: Make::Rule(|_| mean()),
    },
    Entry {
        names: &["ties"],
        about: "Keeps each adapter's largest entries, elects a sign at every place, and takes the mean of what agrees. For adapters of \
                different tasks that would cancel each other. The scale of the result is worth tuning.",
        source: "TIES, arXiv 2306.01708",
        options: &["density", "majority"],
        make: Make::Rule(|options| elected(trimmed(options), TiesFlavour::Paper, options)),
    },
    Entry {
        names: &["ties-peft"],
        about: "TIES with PEFT's formulas: votes before weighting, and the weighted entries that agree over their count.",
        source: "PEFT, `ties`",
        options: &["density", "majority"],
        make: Make::Rule(|options| elected(trimmed(options), TiesFlavour::Peft, options)),
    },
    Entry {
        names: &["ties-mergekit"],
        about: "TIES with mergekit's formulas: votes after weighting, and the weighted mean of the entries that agree.",
        source: "mergekit, `ties`",
        options: &["density", "majority"],
        make: Make::Rule(|options| {
            elected(
                trimmed(options),
                TiesFlavour::Mergekit { normalize: true },
                options,
            )
        }),
    },
    Entry {
        names: &["magnitude"],
        about: "Keeps each adapter's largest entries and sums them with the weights. The simplest of the sparse rules.",
        source: "PEFT, `magnitude_prune`",
        options: &["density"],
        make: Make::Rule(|options| summed(trimmed(options))),
    },
    Entry {
        names: &["dare", "dare-linear"],
        about: "Drops entries at random, makes the others larger to keep the expectation, and sums. One draw: another seed gives another \
                result, and the lower the density the more so.",
        source: "DARE, arXiv 2311.03099",
        options: &["density", "rescale"],
        make: Make::Rule(|options| summed(drawn(options))),
    },
    Entry {
        names: &["dare-ties"],
        about: "Drops entries at random as dare does, then elects signs as ties does.",
        source: "DARE, arXiv 2311.03099",
        options: &["density", "rescale", "majority"],
        make: Make::Rule(|options| elected(drawn(options), TiesFlavour::Paper, options)),
    },
    Entry {
        names: &["dare-ties-peft"],
        about: "dare-ties with PEFT's formulas for the election.",
        source: "PEFT, `dare_ties`",
        options: &["density", "rescale", "majority"],
        make: Make::Rule(|options| elected(drawn(options), TiesFlavour::Peft, options)),
    },
    Entry {
        names: &["dare-ties-mergekit"],
        about: "dare-ties with mergekit's formulas for the election: the weighted entries that agree are summed.",
        source: "mergekit, `dare_ties`",
        options: &["density", "rescale", "majority"],
        make: Make::Rule(|options| {
            elected(
                drawn(options),
                TiesFlavour::Mergekit { normalize: false },
                options,
            )
        }),
    },
    Entry {
        names: &["breadcrumbs"],
        about: "Drops each adapter's smallest entries and its few largest, the outliers, and sums the rest.",
        source: "model breadcrumbs, arXiv 2312.06795",
        options: &["density", "gamma"],
        make: Make::Rule(|options| summed(crumbs(options))),
    },
    Entry {
        names: &["breadcrumbs-ties"],
        about: "Drops the smallest and the largest entries as breadcrumbs does, then elects signs as ties does.",
        source: "mergekit, `breadcrumbs_ties`",
        options: &["density", "gamma", "majority"],
        make: Make::Rule(|options| elected(crumbs(options), TiesFlavour::Paper, options)),
    },
    Entry {
        names: &["della"],
        about: "Drops entries at random, small ones sooner than large ones of the same row, then elects signs as ties does.",
        source: "DELLA, arXiv 2406.11617",
        options: &["density", "epsilon", "rescale", "majority"],
        make: Make::Rule(|options| elected(ranked(options), TiesFlavour::Paper, options)),
    },
    Entry {
        names: &["della-linear"],
        about: "Drops entries as della does, and sums.",
        source: "mergekit, `della_linear`",
        options: &["density", "epsilon", "rescale"],
        make: Make::Rule(|options| summed(ranked(options))),
    },
    Entry {
        names: &["sce"],
        about: "Selects the places where adapters differ most, weighs each adapter by what it has there, erases what is against the \
                elected sign, and takes the mean.",
        source: "SCE of FuseChat, arXiv 2408.07990",
        options: &["select"],
        make: Make::Rule(|options| {
            let own = Sce::default();
            Arc::new(Sce {
                select_topk: options.select.unwrap_or(own.select_topk),
            })
        }),
    },
    Entry {
        names: &["slerp"],
        about: "From one update to another on the arc between them; the weights say how far. Two adapters. The same in all lossless \
                spaces.",
        source: "Shoemake, SIGGRAPH 1985",
        options: &[],
        make: Make::Rule(|_| Arc::new(Slerp)),
    },
    Entry {
        names: &["model-stock"],
        about: "The mean, made shorter the wider the angles between the updates are. The same in all lossless spaces. Made for adapters \
                of one task and different seeds.",
        source: "Model Stock, arXiv 2403.19522",
        options: &[],
        make: Make::Rule(|_| Arc::new(ModelStock)),
    },
];

fn lift(space: Space, rule: Arc<dyn Rule>) -> Arc<dyn Method> {
    Arc::new(InSpace { space, rule })
}

fn sum(rule: Linear) -> Arc<dyn Method> {
    lift(Space::Core, Arc::new(rule))
}

fn mean() -> Arc<dyn Rule> {
    Arc::new(Linear {
        normalize: true,
        ..Linear::default()
    })
}

fn needs(reason: &str) -> Error {
    Error::Refused {
        module: String::new(),
        reason: reason.to_owned(),
    }
}

fn trimmed(options: &Options) -> Sparse {
    Sparse::magnitude(options.density.unwrap_or(0.2))
}

fn drawn(options: &Options) -> Sparse {
    let density = options.density.unwrap_or(0.5);
    let rescale = options.rescale;
    Sparse {
        sparsify: Sparsify::Random { density, rescale },
        ..Sparse::dare(density)
    }
}

fn crumbs(options: &Options) -> Sparse {
    let density = options.density.unwrap_or(0.15);
    let gamma = options.gamma.unwrap_or(0.01);
    Sparse {
        sparsify: Sparsify::Breadcrumbs { density, gamma },
        ..Sparse::breadcrumbs(density)
    }
}

fn ranked(options: &Options) -> Sparse {
    let density = options.density.unwrap_or(0.5);
    let mut own = Sparse::della(density);
    if let Sparsify::Della {
        epsilon, rescale, ..
    } = &mut own.sparsify
    {
        *rescale = options.rescale;
        *epsilon = options.epsilon.unwrap_or(*epsilon);
    }
    own
}

fn summed(sparse: Sparse) -> Arc<dyn Rule> {
    Arc::new(sparse.summed())
}

fn elected(sparse: Sparse, flavour: TiesFlavour, options: &Options) -> Arc<dyn Rule> {
    let majority = options.majority;
    Arc::new(Sparse {
        consensus: Consensus::Elect { flavour, majority },
        ..sparse
    })
}
