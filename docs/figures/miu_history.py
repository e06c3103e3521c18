"""What MIU does in each phase, on the built-in data."""

from grmu_sk import MIUUnlearner, sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.plotting import UnlearningHistoryDisplay

data = load_digits_on_backgrounds(random_state=0)
X, y, a = (data[name][data.train] for name in ("images", "target", "groups"))
forget = sample_forget_set(y, a, forget_groups=data.smallest_group, random_state=0)
miu = MIUUnlearner(lr=0.01, random_state=0).fit(X, y, a).unlearn(forget)
UnlearningHistoryDisplay.from_estimator(miu)
