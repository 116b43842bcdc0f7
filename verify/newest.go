package verify

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// maxKeys bounds what a log tells of its keys, in bytes.
const maxKeys = 256 << 10

// Newest asks a log for its newest checkpoint and its keys, the retired ones too, and checks neither: it is for those
// who only keep them. Of o it uses URL, Token and HTTP.
func Newest(ctx context.Context, o Options) (checkpoint string, keys []string, err error) {
	f, err := newFetcher(&o)
	if err != nil {
		return "", nil, err
	}
	defer f.close(&o)
	signed, err := f.get(ctx, "checkpoint", maxNote)
	if err != nil {
		return "", nil, err
	}
	data, err := f.get(ctx, "v1/log", maxKeys)
	if err != nil {
		return "", nil, err
	}
	var log wire.Log
	if err := json.Unmarshal(data, &log); err != nil {
		return "", nil, fmt.Errorf("%s/v1/log: %w", f.base, err)
	}
	for _, k := range log.Keys {
		keys = append(keys, k.VerifierKey)
	}
	return string(signed), keys, nil
}
