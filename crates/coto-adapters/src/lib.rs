//! Low-rank adapters on the activation path: LoRA, rsLoRA, DoRA and HiRA, their targeting, initialisation and PEFT form.
