package storagenode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// The file "lost" lists the blocks that a person confirmed as lost, as the last check was told (big endian):
//
//	magic "CSLO" ‖ version u8 = 1 ‖ 0 0 0 ‖ (from u64 ‖ to u64) … ‖ CRC-32C u32 of all before
//
// It lets the offline verifier print them. Where it is missing or not good, the next check writes it.
const (
	lostMagic   = "CSLO"
	lostVersion = 1
	lostHeader  = 8
)

func lostPath(dir string) string { return filepath.Join(dir, "lost") }

func appendLost(dst []byte, list []chain.Range) []byte {
	start := len(dst)
	dst = append(append(dst, lostMagic...), lostVersion, 0, 0, 0)
	for _, r := range list {
		dst = binary.BigEndian.AppendUint64(dst, r.From)
		dst = binary.BigEndian.AppendUint64(dst, r.To)
	}
	return binary.BigEndian.AppendUint32(dst, segment.Checksum(dst[start:]))
}

func parseLost(data []byte) ([]chain.Range, error) {
	if len(data) < lostHeader+4 || string(data[:4]) != lostMagic {
		return nil, fmt.Errorf("%w: %d bytes are no list of lost blocks", ErrDamaged, len(data))
	}
	if data[4] > lostVersion {
		return nil, fmt.Errorf("%w: version %d, this program knows %d", ErrNewerFormat, data[4], lostVersion)
	}
	body := data[:len(data)-4]
	if data[4] != lostVersion || (len(body)-lostHeader)%16 != 0 || segment.Checksum(body) != binary.BigEndian.Uint32(data[len(body):]) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	var list []chain.Range
	for at := lostHeader; at < len(body); at += 16 {
		r := chain.Range{From: binary.BigEndian.Uint64(body[at:]), To: binary.BigEndian.Uint64(body[at+8:])}
		if r.From >= r.To || len(list) > 0 && r.From <= list[len(list)-1].To {
			return nil, fmt.Errorf("%w: blocks %d to %d do not belong there", ErrDamaged, r.From, r.To)
		}
		list = append(list, r)
	}
	return list, nil
}

// readLost gives the blocks confirmed as lost; none where the file is missing or not good. The error wraps ErrNewerFormat, or is
// the disk's.
func readLost(dir string) ([]chain.Range, error) {
	data, err := durable.ReadFile(lostPath(dir))
	if durable.Absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := parseLost(data)
	if errors.Is(err, ErrNewerFormat) {
		return nil, fmt.Errorf("%s: %w", lostPath(dir), err)
	}
	return list, nil // what is damaged comes again with the next check
}

// keepLost writes the list when it changed; mu is held.
func (n *Node) keepLost(list []chain.Range) error {
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	there, err := readLost(n.cfg.Dir)
	if err == nil && slices.Equal(there, list) {
		n.lost = list
		return nil
	}
	if err := n.cfg.writeFile(lostPath(n.cfg.Dir), appendLost(nil, list), 0o600); err != nil {
		return n.fail(err)
	}
	n.lost = list
	return nil
}
