//! Who used how much of a sum that was counted for all: by weight, by the largest remainder
//! (Hamilton's method), so that the shares are the sum again.

/// The shares of `total`, in the order of the weights. Where nothing weighs anything, all weigh
/// the same; of equal remainders the earlier one wins.
pub fn shares(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let (sum, even) = if sum == 0 { (weights.len() as u128, true) } else { (sum, false) };
    if weights.is_empty() {
        return Vec::new();
    }
    let mut remainders = Vec::with_capacity(weights.len());
    let mut shares: Vec<u64> = Vec::with_capacity(weights.len());
    for &weight in weights {
        let exact = u128::from(total) * if even { 1 } else { u128::from(weight) };
        // no share is more than the total
        shares.push((exact / sum) as u64);
        remainders.push(exact % sum);
    }
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(remainders[index]));
    let left = total - shares.iter().sum::<u64>();
    for &index in order.iter().take(left as usize) {
        shares[index] += 1;
    }
    shares
}
