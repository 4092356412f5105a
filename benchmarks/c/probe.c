// The yardstick of the environment benchmark: rows of an observation and a mask written with trivial logic.
// No rules are played. Whoever writes both whole rows in every step can hardly be faster on the same machine.
#include <stdint.h>
#include <string.h>

enum { FEATURES = 92, ACTIONS = 82 };

// Writes 368 + 82 bytes for each of `games` games, `steps` times over.
void probe_write_rows(float* observation, uint8_t* mask, int64_t games, int64_t steps) {
    static const float head[FEATURES - ACTIONS];
    float tail[2][ACTIONS];
    for (int k = 0; k < ACTIONS; ++k) tail[0][k] = 0.0f, tail[1][k] = 1.0f;
    for (int64_t step = 0; step < steps; ++step) {
        for (int64_t game = 0; game < games; ++game) {
            const int pattern = (int)((game + step) & 1);
            float* view = observation + game * FEATURES;
            memcpy(view, head, sizeof head);
            view[game % (FEATURES - ACTIONS)] = (float)step;
            memcpy(view + FEATURES - ACTIONS, tail[pattern], sizeof tail[pattern]);
            memset(mask + game * ACTIONS, pattern, ACTIONS);
        }
    }
}
