"""The trainable variables of a model as stacks, and what the objective reads from them."""

from nvae_tf.layers.kernels import VariableStacks, group_by, split_by_size


class ParameterStacks(VariableStacks):
    """Every trainable variable of a model, stacked by shape and role.

    Kernels that are normalised together form one stack, and so do their log norms; all else goes by shape and name.

    Args:
        model: built `NVAE`.
    """

    def __init__(self, model):
        self._kernel_stacks = model.kernel_stacks
        kernel_groups = [group for kernels in model.kernel_stacks for group in kernels.variables]
        grouped = {id(variable) for group in kernel_groups for variable in group}
        rest = [variable for variable in model.trainable_variables if id(variable) not in grouped]
        rest_groups = group_by(rest, lambda variable: (tuple(variable.shape), variable.name))
        super().__init__(
            kernel_groups + [part for group in rest_groups for part in split_by_size(group, group[0].shape)]
        )

    def effective_kernels(self, values):
        """Effective kernels of the model's kernel stacks, from the stacks' values."""
        values = iter(values)
        return [kernels.effective(*(next(values) for _ in kernels.variables)) for kernels in self._kernel_stacks]

    def batch_norm_scales(self, values):
        """The stacks [n, C] of the batch norms' scales."""
        return [value for group, value in zip(self.groups, values, strict=True) if group[0].name == "gamma"]
