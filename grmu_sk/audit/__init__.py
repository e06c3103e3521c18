"""Evidence that what was to be forgotten is forgotten, and stays so."""

from .attacks import lira_scores, rmia_scores
from .evidence import build_evidence, evidence_schema, read_evidence, write_report
from .gate import AcceptanceGate, GateCheck, GateError, GateResult
from .leakage import LeakageAudit, LeakageFinding, audit_unlearning
from .ledger import DeletionLedger, DeletionRequest, model_hash
from .ledger_file import (
    LedgerBusyError,
    LedgerDamagedError,
    LedgerEntry,
    LedgerError,
    LedgerWriteError,
    create_key_file,
)
from .preflight import PreflightReport, preflight
from .reference_models import ReferenceModels
from .residue import Finding, ResidueScan, scan_residue
from .scores import Interval, ModelScores, measure

__all__ = [
    "AcceptanceGate",
    "DeletionLedger",
    "DeletionRequest",
    "Finding",
    "GateCheck",
    "GateError",
    "GateResult",
    "Interval",
    "LeakageAudit",
    "LeakageFinding",
    "LedgerBusyError",
    "LedgerDamagedError",
    "LedgerEntry",
    "LedgerError",
    "LedgerWriteError",
    "ModelScores",
    "PreflightReport",
    "ReferenceModels",
    "ResidueScan",
    "audit_unlearning",
    "build_evidence",
    "create_key_file",
    "evidence_schema",
    "lira_scores",
    "measure",
    "model_hash",
    "preflight",
    "read_evidence",
    "rmia_scores",
    "scan_residue",
    "write_report",
]
