"""Word alignment: symmetrization, baselines, alignment from attention, and tables of the alignment error rate.

Gold alignments and their files are read by `attnlab.data.translation.alignment_files`; the metric is that of
`attnlab.tasks.translation.alignment`.
"""

from attnlab.analysis.alignment.aligners import Directions as Directions
from attnlab.analysis.alignment.aligners import eflomal as eflomal
from attnlab.analysis.alignment.aligners import fast_align as fast_align
from attnlab.analysis.alignment.attention import AttendedSentence as AttendedSentence
from attnlab.analysis.alignment.attention import AttentionStack as AttentionStack
from attnlab.analysis.alignment.attention import Choice as Choice
from attnlab.analysis.alignment.attention import Quantity as Quantity
from attnlab.analysis.alignment.attention import Reading as Reading
from attnlab.analysis.alignment.attention import aer_of_choices as aer_of_choices
from attnlab.analysis.alignment.attention import aligned_weights as aligned_weights
from attnlab.analysis.alignment.attention import attention_counts as attention_counts
from attnlab.analysis.alignment.attention import attention_links as attention_links
from attnlab.analysis.alignment.attention import choices as choices
from attnlab.analysis.alignment.attention import choose as choose
from attnlab.analysis.alignment.attention import cross_attention as cross_attention
from attnlab.analysis.alignment.baselines import diagonal as diagonal
from attnlab.analysis.alignment.baselines import random_links as random_links
from attnlab.analysis.alignment.by_length import LengthGroup as LengthGroup
from attnlab.analysis.alignment.by_length import by_length as by_length
from attnlab.analysis.alignment.ibm1 import IBM1 as IBM1
from attnlab.analysis.alignment.ibm1 import train_ibm1 as train_ibm1
from attnlab.analysis.alignment.norms import SourceNorms as SourceNorms
from attnlab.analysis.alignment.norms import source_norms as source_norms
from attnlab.analysis.alignment.prediction import AlignedPrediction as AlignedPrediction
from attnlab.analysis.alignment.report import AlignmentReport as AlignmentReport
from attnlab.analysis.alignment.report import ScoredChoice as ScoredChoice
from attnlab.analysis.alignment.report import alignment_report as alignment_report
from attnlab.analysis.alignment.sentences import SourceAttention as SourceAttention
from attnlab.analysis.alignment.sentences import TokenizedPair as TokenizedPair
from attnlab.analysis.alignment.sentences import attended_sentences as attended_sentences
from attnlab.analysis.alignment.sentences import reported_choice as reported_choice
from attnlab.analysis.alignment.sentences import source_attention as source_attention
from attnlab.analysis.alignment.sentences import tokenized as tokenized
from attnlab.analysis.alignment.sentences import tokenized_hypothesis as tokenized_hypothesis
from attnlab.analysis.alignment.statistical import ALIGNERS as ALIGNERS
from attnlab.analysis.alignment.statistical import Bidirectional as Bidirectional
from attnlab.analysis.alignment.statistical import available as available
from attnlab.analysis.alignment.statistical import check_aligners as check_aligners
from attnlab.analysis.alignment.statistical import statistical_alignment as statistical_alignment
from attnlab.analysis.alignment.symmetrization import METHODS as METHODS
from attnlab.analysis.alignment.symmetrization import grow_diag as grow_diag
from attnlab.analysis.alignment.symmetrization import grow_diag_final as grow_diag_final
from attnlab.analysis.alignment.symmetrization import grow_diag_final_and as grow_diag_final_and
from attnlab.analysis.alignment.symmetrization import intersection as intersection
from attnlab.analysis.alignment.symmetrization import symmetrize as symmetrize
from attnlab.analysis.alignment.symmetrization import transposed as transposed
from attnlab.analysis.alignment.symmetrization import union as union
from attnlab.analysis.alignment.table import AlignmentRow as AlignmentRow
from attnlab.analysis.alignment.table import alignment_row as alignment_row
from attnlab.analysis.alignment.table import row_of_counts as row_of_counts
from attnlab.tasks.translation.alignment import aer as aer
