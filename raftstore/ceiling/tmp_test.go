package ceiling
import ("testing";"time")
func TestTmp(t *testing.T){
 for _, c := range []int{1,4,16,64} {
 n, err := Run(t.Context(), t.TempDir(), 322, 100, c, 2*time.Second); t.Log("BARE", c, n/2, err)
 }
}
