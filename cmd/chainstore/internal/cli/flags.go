package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// AddJSON adds the flag --json to a command.
func AddJSON(cmd *cobra.Command, to *bool, usage string) {
	cmd.Flags().BoolVar(to, "json", false, usage)
}

// AddClusterToken adds the flag that names the file of the cluster token.
func AddClusterToken(flags *pflag.FlagSet, file *string) {
	flags.StringVar(file, "cluster-token-file", "", "`file` with the cluster token (or "+EnvClusterToken+")")
}

// ReadSecret reads a token from a file, or from an environment variable if no file is named. It returns "" if neither
// is set. Tokens are never arguments, because other users can see a command line.
func ReadSecret(file, variable string) (string, error) {
	if file == "" {
		return strings.TrimSpace(os.Getenv(variable)), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s must hold one token and nothing else", file)
	}
	return token, nil
}
