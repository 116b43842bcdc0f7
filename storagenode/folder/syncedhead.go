package folder

import (
	"errors"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
)

// The file "tiles/synced" is the head of the chain up to which index and tiles were synced (big endian):
//
//	magic "CSTS" ‖ version u8 = 1 ‖ 0 0 0 ‖ head, as chain.Head.AppendTo writes it ‖ CRC-32C u32 of all before
var syncedFormat = durable.Format{Magic: "CSTS", Version: 1, Zeros: 3}

// WriteSynced writes the head up to which index and tiles are synced.
func (d Dir) WriteSynced(head chain.Head) error {
	return syncedFormat.Write(d.Synced(), head.AppendTo(nil))
}

// ReadSynced returns the zero head if the file is missing or damaged: the node computes it again. The error wraps
// [durable.ErrNewerFormat], or is the disk's.
func (d Dir) ReadSynced() (chain.Head, error) {
	var head chain.Head
	if err := syncedFormat.Read(d.Synced(), func(f *durable.Fields) { head = parseSynced(f) }); err != nil {
		return chain.Head{}, ignoreLoss(err)
	}
	return head, nil
}

func parseSynced(f *durable.Fields) chain.Head {
	head, err := chain.ParseHead(f.Bytes(f.Len()))
	if err != nil {
		f.Fail(err)
	}
	return head
}

// ignoreLoss returns nil if a file is missing or damaged.
func ignoreLoss(err error) error {
	if durable.Absent(err) || errors.Is(err, durable.ErrDamaged) {
		return nil
	}
	return err
}
