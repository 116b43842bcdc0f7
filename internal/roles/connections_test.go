package roles

import (
	"strings"
	"testing"

	"github.com/chainstore/chainstore/httpapi"
)

func TestConnectionLimits(t *testing.T) {
	for _, c := range []struct {
		total, perAddress int
		files             uint64
		want              httpapi.ConnectionLimits
		err               string
	}{
		{0, 0, 1024, httpapi.ConnectionLimits{Total: 512, PerAddress: 512}, ""},
		{0, 0, 1 << 62, httpapi.ConnectionLimits{Total: 10_000, PerAddress: 5_000}, ""},
		{0, 0, 4096, httpapi.ConnectionLimits{Total: 2048, PerAddress: 2000}, ""},
		{0, 0, 10_000, httpapi.ConnectionLimits{Total: 5000, PerAddress: 2500}, ""},
		{0, 100, 1024, httpapi.ConnectionLimits{Total: 512, PerAddress: 100}, ""},
		{700, 700, 1024, httpapi.ConnectionLimits{Total: 700, PerAddress: 700}, ""},
		{0, 0, 1, httpapi.ConnectionLimits{Total: 1, PerAddress: 1}, ""},
		{800, 0, 1024, httpapi.ConnectionLimits{}, "give at most 768"},
		{-1, 0, 1024, httpapi.ConnectionLimits{}, "--max-connections -1 is negative"},
		{0, -1, 1024, httpapi.ConnectionLimits{}, "--max-connections-per-address -1 is negative"},
	} {
		cfg := NodeConfig{MaxConnections: c.total, MaxConnectionsPerAddress: c.perAddress}
		got, err := cfg.connectionLimits(c.files)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%d and %d of %d files: %v", c.total, c.perAddress, c.files, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%d and %d of %d files: %+v, %v", c.total, c.perAddress, c.files, got, err)
		}
	}
}
