package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// MaxCommand is the largest command in bytes that a segment can hold: the library does not read frames of more than
// 64 MiB back, and a frame has up to 128 bytes besides the command, those of the encryption among them.
const MaxCommand = 64<<20 - 128

// maxOverhead is more than the bytes of a segment that an entry takes besides its command.
const maxOverhead = 160

// ErrTooLarge is returned for an entry of more than [MaxCommand] bytes.
var ErrTooLarge = errors.New("the entry is too large")

// Checksum returns the value of an entry's extension field: CRC-32C of index u64 ‖ term u64 ‖ type u8 ‖ data, big
// endian.
func Checksum(l *raft.Log) [4]byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	return [4]byte(binary.BigEndian.AppendUint32(nil, durable.Checksum(head[:], l.Data)))
}

// CheckEntry returns an error that wraps [durable.ErrDamaged] if an entry does not match its checksum.
func CheckEntry(l *raft.Log) error {
	if sum := Checksum(l); !bytes.Equal(l.Extensions, sum[:]) {
		return fmt.Errorf("%w: entry %d has checksum %x, its bytes have %x (%s)", durable.ErrDamaged, l.Index,
			l.Extensions, sum, raftconfig.Remedy)
	}
	return nil
}

// decodeEntry decodes and checks the entry of that index. The library's decoder panics where a number is malformed.
func decodeEntry(data []byte, index uint64) (l raft.Log, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: entry %d cannot be decoded: %v", durable.ErrDamaged, index, r)
		}
	}()
	var codec wal.BinaryCodec
	switch err := codec.Decode(data, &l); {
	case err != nil:
		return l, fmt.Errorf("%w: entry %d cannot be decoded: %w", durable.ErrDamaged, index, err)
	case l.Index != index:
		return l, fmt.Errorf("%w: entry %d is in the place of entry %d", durable.ErrDamaged, l.Index, index)
	}
	return l, CheckEntry(&l)
}
