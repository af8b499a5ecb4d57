//! Placeholder: see the module list.
