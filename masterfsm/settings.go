package masterfsm

import (
	"fmt"

	"github.com/chainstore/chainstore/chain"
)

// Settings are the limits that the whole group shares. A leader brings its own in [BeginTerm], so they change through
// the log, when a master started with other flags leads.
type Settings struct {
	MaxRecords      uint32 `json:"max_records"`       // records in a block before it is cut
	MaxBytes        uint32 `json:"max_bytes"`         // bytes of records in a block before it is cut
	MaxPendingBytes uint64 `json:"max_pending_bytes"` // unstored bytes before appends are refused
	RetainBytes     uint64 `json:"retain_bytes"`      // stored bytes kept for storage nodes that are behind
	Difficulty      uint8  `json:"difficulty"`        // leading zero bits of a block's hash
	Replicas        uint8  `json:"replicas"`          // storage nodes that must have a block before the masters drop it
	MaxKeys         uint32 `json:"max_keys"`          // idempotency keys remembered
	KeyAge          uint64 `json:"key_age"`           // milliseconds that they are remembered for
	// WitnessQuorum is how many witnesses must have cosigned a checkpoint before it is published.
	WitnessQuorum uint8 `json:"witness_quorum,omitempty"`
}

// DefaultSettings are those of the design.
func DefaultSettings() Settings {
	return Settings{
		MaxRecords:      16_384,
		MaxBytes:        4 << 20,
		MaxPendingBytes: 256 << 20,
		RetainBytes:     64 << 20,
		Difficulty:      16,
		Replicas:        2,
		MaxKeys:         1_000_000,
		KeyAge:          10 * 60 * 1000,
	}
}

// Check reports which setting is out of its range.
func (s Settings) Check() error {
	switch {
	case s.MaxRecords == 0 || s.MaxRecords > 1<<20:
		return fmt.Errorf("%w: max records %d is not within 1 and %d", ErrBadCommand, s.MaxRecords, 1<<20)
	case s.MaxBytes == 0 || s.MaxBytes > 64<<20:
		return fmt.Errorf("%w: max bytes %d is not within 1 and %d", ErrBadCommand, s.MaxBytes, 64<<20)
	case s.Difficulty > chain.MaxDifficulty:
		return fmt.Errorf("%w: difficulty %d is over the cap of %d bits", ErrBadCommand, s.Difficulty,
			chain.MaxDifficulty)
	case s.Replicas == 0:
		return fmt.Errorf("%w: replicas must be at least 1", ErrBadCommand)
	case s.MaxPendingBytes == 0:
		return fmt.Errorf("%w: max pending bytes must be at least 1", ErrBadCommand)
	case s.WitnessQuorum > MaxWitnesses:
		return fmt.Errorf("%w: a witness quorum of %d is over the cap of %d witnesses", ErrBadCommand, s.WitnessQuorum,
			MaxWitnesses)
	}
	return nil
}
