// The yardstick of the environment benchmark: rows of an observation and a mask written with trivial logic.
// No rules are played, so nothing that writes both rows every step can be much faster on the same machine.
#include <cstdint>
#include <cstring>

extern "C" void write_rows(float* observation, uint8_t* mask, const int64_t* actions, int64_t rows, int64_t features,
                           int64_t num_actions) {
    for (int64_t row = 0; row < rows; ++row) {
        float* view = observation + row * features;
        const float base = (float)(actions[row] & 63);
        for (int64_t k = 0; k < features - num_actions; ++k) view[k] = base + (float)k;
        const uint8_t legal = (uint8_t)((actions[row] >> 3) & 1);
        float* tail = view + features - num_actions;
        for (int64_t k = 0; k < num_actions; ++k) tail[k] = (float)legal;
        std::memset(mask + row * num_actions, legal, (size_t)num_actions);
    }
}
