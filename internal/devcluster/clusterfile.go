package devcluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/durable"
)

// ClusterFile is the file cluster.json in a cluster's folder, from which programs read how to reach the cluster. Its
// mode is 0600, and it stays the same across restarts.
type ClusterFile struct {
	Version  int           `json:"version"` // of the folder's format
	Masters  []string      `json:"masters"` // URLs
	Storages []StorageFile `json:"storages"`
	Miners   []string      `json:"miners"` // URLs
	Tokens   Tokens        `json:"tokens"`
	CA       string        `json:"ca,omitempty"` // file of the certificate authority, absolute; "" without TLS
}

// StorageFile is a storage node of a cluster file.
type StorageFile struct {
	URL  string `json:"url"`
	Data string `json:"data"` // its data folder, absolute
}

// Tokens of a cluster file.
type Tokens struct {
	Admin   string `json:"admin"`
	Project string `json:"project"` // of the project "default"; "" until that is created
	Cluster string `json:"cluster"`
}

// clusterFileVersion is the version of a cluster's folder that this program makes and reads.
const clusterFileVersion = 1

// clusterFileName is the name of the file in the cluster's folder.
const clusterFileName = "cluster.json"

// ClusterFilePath returns the path of the cluster file in a cluster's folder.
func ClusterFilePath(dir string) string { return filepath.Join(dir, clusterFileName) }

// ReadClusterFile reads a cluster file.
func ReadClusterFile(path string) (ClusterFile, error) {
	var f ClusterFile
	data, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("%s is not a cluster file: %w", path, err)
	}
	if f.Version > clusterFileVersion {
		return f, fmt.Errorf("%s: %w", path, durable.NewerVersion(f.Version, clusterFileVersion))
	}
	return f, nil
}

// Write writes the file to path with mode 0600.
func (f ClusterFile) Write(path string) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}
