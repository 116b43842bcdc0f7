package masternode

import (
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// Limits of what clients may send. They are this master's own: positions do not depend on them.
type Limits struct {
	RecordBytes  int // of a payload
	BatchRecords int
	BatchBytes   int // of the payloads of a batch together
}

// DefaultLimits are those of the design: 1 MiB a record, 10,000 records or 4 MiB a batch.
func DefaultLimits() Limits {
	return Limits{RecordBytes: 1 << 20, BatchRecords: 10_000, BatchBytes: 4 << 20}
}

// maxIdempotencyKey bounds what is hashed for a key.
const maxIdempotencyKey = 1024

// check holds entries against the limits, before anything is done with them.
func (l Limits) check(entries []Entry, idempotencyKey string) error {
	if len(entries) == 0 {
		return fmt.Errorf("%w: a batch needs at least one record", wire.ErrEmptyBody)
	}
	if len(entries) > l.BatchRecords {
		return fmt.Errorf("%w: %d records in a batch, the limit is %d; nothing of it was appended, send it in parts",
			wire.ErrTooLarge, len(entries), l.BatchRecords)
	}
	if len(idempotencyKey) > maxIdempotencyKey {
		return fmt.Errorf("%w: the idempotency key has %d bytes, the limit is %d",
			wire.ErrBadRequest, len(idempotencyKey), maxIdempotencyKey)
	}
	total := 0
	for i := range entries {
		size := len(entries[i].Payload)
		total += size
		switch {
		case size == 0 && len(entries) > 1:
			return fmt.Errorf("%w: record %d of the batch is empty; nothing of it was appended", wire.ErrEmptyBody, i)
		case size == 0:
			return wire.ErrEmptyBody
		case size > l.RecordBytes:
			return fmt.Errorf("%w: the payload of record %d has %d bytes, the limit is %d; nothing was appended",
				wire.ErrTooLarge, i, size, l.RecordBytes)
		}
		err := wire.CheckRecordText(entries[i].Key, entries[i].Type)
		if err != nil && len(entries) > 1 {
			return fmt.Errorf("%w: record %d of the batch: %w; nothing of it was appended", wire.ErrBadRequest, i, err)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
		}
	}
	if len(entries) > 1 && total > l.BatchBytes {
		return fmt.Errorf("%w: a batch of %d bytes, the limit is %d; nothing of it was appended, send it in parts",
			wire.ErrTooLarge, total, l.BatchBytes)
	}
	return nil
}
