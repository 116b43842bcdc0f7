package folder

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
)

// The file "running" exists while a node uses the folder, and stays when its process ends without Close:
//
//	magic "CSRN" ‖ version u8 = 1 ‖ 0 0 0
var runningFormat = durable.Format{Magic: "CSRN", Version: 1, Zeros: 3}

// IsMarked reports whether the file "running" exists, or something else at its path, readable or not.
func (d Dir) IsMarked() (bool, error) {
	data, err := durable.ReadFile(d.Running())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if durable.Absent(err) {
		return true, nil // whether the mark was there is not known
	}
	if durable.OneUnreadable(err) {
		return true, nil // the start is an unclean one, which is safe
	}
	if err != nil {
		return false, err
	}
	if err := runningFormat.CheckHeader(data); errors.Is(err, durable.ErrNewerFormat) {
		return false, fmt.Errorf("%s: %w", d.Running(), err)
	}
	return true, nil
}

// Mark writes the file "running". One that is there already is made durable, which needs no room on the disk.
func (d Dir) Mark() error {
	if data, err := durable.ReadFile(d.Running()); err == nil && bytes.Equal(data, runningFormat.AppendHeader(nil)) {
		return durable.SyncDir(string(d))
	}
	return durable.WriteFile(d.Running(), runningFormat.AppendHeader(nil), 0o600)
}

// Unmark removes it. It is the last step of a clean stop.
func (d Dir) Unmark() error {
	if err := os.Remove(d.Running()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(string(d))
}

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
	return readOrZero(syncedFormat, d.Synced(), parseSynced)
}

func parseSynced(f *durable.Fields) chain.Head {
	head, err := chain.ParseHead(f.Bytes(f.Len()))
	if err != nil {
		f.Fail(err)
	}
	return head
}

// readOrZero reads a small file. It returns the zero value if the file is missing or damaged.
func readOrZero[T any](format durable.Format, path string, parse func(*durable.Fields) T) (T, error) {
	var value, zero T
	err := format.Read(path, func(f *durable.Fields) { value = parse(f) })
	switch {
	case err == nil:
		return value, nil
	case durable.Absent(err) || errors.Is(err, durable.ErrDamaged):
		return zero, nil
	}
	return zero, err
}

// The file "lost" lists the blocks that a person confirmed as lost, as the last check's order named them (big endian):
//
//	magic "CSLO" ‖ version u8 = 1 ‖ 0 0 0 ‖ (from u64 ‖ to u64) … ‖ CRC-32C u32 of all before
//
// It lets the offline verifier print them. Where it is missing or damaged, the next check writes it.
var lostFormat = durable.Format{Magic: "CSLO", Version: 1, Zeros: 3}

// EncodeLost returns the content of the file "lost".
func EncodeLost(list []chain.Range) []byte {
	body, _ := binary.Append(nil, binary.BigEndian, list)
	return lostFormat.Append(nil, body)
}

// ReadLost returns the blocks that are confirmed as lost, none if the file is missing or damaged. The error wraps
// [durable.ErrNewerFormat], or is the disk's.
func (d Dir) ReadLost() ([]chain.Range, error) {
	return readOrZero(lostFormat, d.Lost(), parseLost)
}

func parseLost(f *durable.Fields) (list []chain.Range) {
	for f.Len() > 0 && !f.Failed() {
		r := chain.Range{From: f.Uint64(), To: f.Uint64()}
		if r.From >= r.To || len(list) > 0 && r.From <= list[len(list)-1].To {
			f.Fail(fmt.Errorf("blocks %d to %d are out of order", r.From, r.To))
		}
		list = append(list, r)
	}
	return list
}

// The file "repair" names the ticket for which the chain was cut, or found to need no cut (big endian):
//
//	magic "CSRP" ‖ version u8 = 1 ‖ 0 0 0 ‖ SHA-256 of the ticket ‖ CRC-32C u32 of all before
//
// A ticket cuts once. After a start the leader opens the same ticket again. What was received under it is above the cut
// then, and must not be cut off.
var ticketFormat = durable.Format{Magic: "CSRP", Version: 1, Zeros: 3}

// EncodeTicket returns the content of the file "repair".
func EncodeTicket(ticket string) []byte {
	sum := sha256.Sum256([]byte(ticket))
	return ticketFormat.Append(nil, sum[:])
}

// IsTicket reports whether the file "repair" names a ticket. A damaged file names none.
func (d Dir) IsTicket(ticket string) (bool, error) {
	parse := func(f *durable.Fields) chain.Hash { return chain.Hash(f.Fixed(sha256.Size)) }
	sum, err := readOrZero(ticketFormat, d.Ticket(), parse)
	return err == nil && sum == sha256.Sum256([]byte(ticket)), err
}
