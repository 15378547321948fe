"""The workflow of an experiment: train, evaluate, predict, show, explain, align; for notebooks and the command line."""

from attnlab.lab.alignment import align as align
from attnlab.lab.comparison import compare as compare
from attnlab.lab.costs import cost as cost
from attnlab.lab.evaluation import evaluate as evaluate
from attnlab.lab.explaining import ExplanationPage as ExplanationPage
from attnlab.lab.explaining import ExplanationSettings as ExplanationSettings
from attnlab.lab.explaining import explain as explain
from attnlab.lab.explaining import explanation_page as explanation_page
from attnlab.lab.faithfulness import measure_faithfulness as measure_faithfulness
from attnlab.lab.prediction import predict as predict
from attnlab.lab.showing import show as show
from attnlab.lab.trained import TrainedModel as TrainedModel
from attnlab.lab.trained import load as load
from attnlab.lab.training import resume_command as resume_command
from attnlab.lab.training import train as train
