package storagenode

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// The file "tiles/synced" is the head of the chain up to which index and tiles were synced (big endian):
//
//	magic "CSTS" ‖ version u8 = 1 ‖ 0 0 0 ‖ head, as chain.Head.AppendTo writes it ‖ CRC-32C u32 of all before
const (
	syncedMagic   = "CSTS"
	syncedVersion = 1
	syncedHeader  = 8
)

func writeSynced(path string, head chain.Head) error {
	data := append(make([]byte, 0, 256), syncedMagic[0], syncedMagic[1], syncedMagic[2], syncedMagic[3], syncedVersion, 0, 0, 0)
	data = head.AppendTo(data)
	data = binary.BigEndian.AppendUint32(data, segment.Checksum(data))
	return durable.WriteFile(path, data, 0o600)
}

// readSynced returns the zero head where the file is missing or not good. The error wraps ErrNewerFormat, or is the disk's.
func readSynced(path string) (chain.Head, error) {
	data, err := durable.ReadFile(path)
	if durable.Absent(err) {
		return chain.Head{}, nil
	}
	if err != nil {
		return chain.Head{}, err
	}
	head, err := parseSynced(data)
	if errors.Is(err, ErrNewerFormat) {
		return chain.Head{}, fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return chain.Head{}, nil // it is computed again
	}
	return head, nil
}

func parseSynced(data []byte) (chain.Head, error) {
	if len(data) < syncedHeader+4 || string(data[:4]) != syncedMagic {
		return chain.Head{}, fmt.Errorf("%w: %d bytes are no head", ErrDamaged, len(data))
	}
	if data[4] > syncedVersion {
		return chain.Head{}, fmt.Errorf("%w: version %d, this program knows %d", ErrNewerFormat, data[4], syncedVersion)
	}
	body := data[:len(data)-4]
	if data[4] != syncedVersion || segment.Checksum(body) != binary.BigEndian.Uint32(data[len(body):]) {
		return chain.Head{}, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	return chain.ParseHead(body[syncedHeader:])
}
